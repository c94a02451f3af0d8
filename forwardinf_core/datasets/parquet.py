"""Parquet files read row group by row group, so that a data set never lies in memory as a whole."""

from __future__ import annotations

import tempfile
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from forwardinf_core.datasets.stores import names_in_metadata
from forwardinf_core.errors import DataError, StoreError

CACHE_BYTES = 64 * 1024**2  # decoded row groups kept; one is kept whatever its size
GROUP_LIMIT_BYTES = 128 * 1024**2  # a larger row group is copied once to disk and memory-mapped
_COPY_ROWS = 64  # rows in memory at a time while copying
_READ_BYTES = 1024**2  # read at a time; without it a column of a row group is read at once


class ParquetStore:
    """One or several parquet files with the same columns, in the order given."""

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        where: str,
        cache_bytes: int = CACHE_BYTES,
        group_limit_bytes: int = GROUP_LIMIT_BYTES,
    ) -> None:
        self.where = where
        self.folder = paths[0].parent
        self._files = [_open(path) for path in paths]
        self._paths = list(paths)
        self._states = [_state(path) for path in paths]
        self.columns = tuple(self._files[0].schema_arrow.names)
        for path, file in zip(paths, self._files, strict=True):
            if tuple(file.schema_arrow.names) != self.columns:
                raise DataError(
                    f"{path.name} has other columns than {paths[0].name}.",
                    hint=f"{', '.join(file.schema_arrow.names)} against {', '.join(self.columns)}.",
                )
        self._groups = [
            (number, group) for number, file in enumerate(self._files) for group in range(file.metadata.num_row_groups)
        ]
        sizes = [self._files[number].metadata.row_group(group).num_rows for number, group in self._groups]
        self._starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).tolist()  # last entry: number of rows
        self._cache: OrderedDict[tuple[str, int], pa.Array | pa.ChunkedArray] = OrderedDict()
        self._cache_bytes = cache_bytes
        self._group_limit_bytes = group_limit_bytes
        self._copies: dict[tuple[str, int], pa.ChunkedArray] = {}
        self._copy_folder: tempfile.TemporaryDirectory[str] | None = None
        self._lock = Lock()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def values(self, column: str) -> pa.ChunkedArray:
        with self._lock:  # a ParquetFile has one reader
            parts = [self._read(number, column, None) for number in range(len(self._files))]
        return pa.chunked_array([chunk for part in parts for chunk in part.chunks], type=parts[0].type)

    def cell(self, column: str, position: int) -> object:
        group = bisect_right(self._starts, position) - 1
        with self._lock:
            values = self._values_of_group(column, group)
        value: object = values[position - self._starts[group]].as_py()
        return value

    def class_names(self, column: str) -> dict[int, str] | None:
        return names_in_metadata(self._files[0].schema_arrow.metadata, column)

    def _values_of_group(self, column: str, group: int) -> pa.Array | pa.ChunkedArray:
        key = (column, group)
        if key in self._copies:
            return self._copies[key]
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        if self._size_of_group(column, group) > self._group_limit_bytes:
            self._copies[key] = self._copy_to_disk(column, group)
            return self._copies[key]
        number, group_in_file = self._groups[group]
        self._cache[key] = self._read(number, column, group_in_file).combine_chunks()
        while len(self._cache) > 1 and sum(values.nbytes for values in self._cache.values()) > self._cache_bytes:
            self._cache.popitem(last=False)
        return self._cache[key]

    def _read(self, number: int, column: str, group: int | None) -> pa.ChunkedArray:
        """Return a column of one row group, or of the whole file. Raises DataError if the file has changed."""
        self._require_unchanged(number)
        file = self._files[number]
        try:
            table = file.read(columns=[column]) if group is None else file.read_row_group(group, columns=[column])
        except (pa.ArrowException, OSError) as problem:
            raise DataError(
                f"{self._paths[number].name} is damaged: column {column!r} cannot be read.",
                hint=f"The reader says: {str(problem).splitlines()[0][:200]}",
            ) from problem
        return table.column(column)

    def _require_unchanged(self, number: int) -> None:
        if _state(self._paths[number]) != self._states[number]:
            raise DataError(
                f"{self._paths[number].name} was changed or moved while it was open.",
                hint="Open the project again; results so far belong to the file as it was.",
            )

    def _size_of_group(self, column: str, group: int) -> int:
        number, group_in_file = self._groups[group]
        details = self._files[number].metadata.row_group(group_in_file)
        leaves = (details.column(leaf) for leaf in range(details.num_columns))
        return sum(leaf.total_uncompressed_size for leaf in leaves if leaf.path_in_schema.split(".")[0] == column)

    def _copy_to_disk(self, column: str, group: int) -> pa.ChunkedArray:
        """Stream one column of one row group to an Arrow file that is memory-mapped, removed with this object."""
        number, group_in_file = self._groups[group]
        file = self._files[number]
        self._require_unchanged(number)
        if self._copy_folder is None:
            self._copy_folder = tempfile.TemporaryDirectory(prefix="forwardinf-rows-")
        path = Path(self._copy_folder.name) / f"{len(self._copies)}.arrow"
        schema = pa.schema([file.schema_arrow.field(column)])
        try:
            with pa.ipc.new_file(path, schema) as writer:
                for batch in file.iter_batches(_COPY_ROWS, row_groups=[group_in_file], columns=[column]):
                    writer.write_batch(batch)
        except OSError as problem:
            raise StoreError(
                f"A row group of {self.where} could not be copied to {path.parent}: {problem}.",
                hint="Free disk space, set TMPDIR to another disk, or write the file with smaller row groups.",
            ) from problem
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all().column(column)


def _state(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _open(path: Path) -> pa.parquet.ParquetFile:
    try:
        # not memory-mapped: a file that is cut short while mapped would end the process
        return pa.parquet.ParquetFile(path, memory_map=False, pre_buffer=False, buffer_size=_READ_BYTES)
    except (pa.ArrowException, OSError) as problem:
        reason = str(problem).splitlines()[0][:200]
        raise DataError(
            f"{path.name} cannot be read as a parquet file.", hint=f"The reader says: {reason}"
        ) from problem
