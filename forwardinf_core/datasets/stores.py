"""Tables that lie in memory: CSV, JSON lines, and folders of images or of texts."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.csv
import pyarrow.json

from forwardinf_core.datasets.rows import Content
from forwardinf_core.errors import DataError

ENDINGS: dict[Content, tuple[str, ...]] = {
    "image": (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
    "text": (".txt", ".text", ".md"),
}
_BLOCK_BYTES = 64 * 1024**2  # no row may be longer


class RowStore(Protocol):
    """A table on disk: columns whole, cells one by one. ``where`` names it in errors."""

    @property
    def where(self) -> str: ...

    @property
    def folder(self) -> Path:
        """Relative paths in cells start here."""
        ...

    @property
    def columns(self) -> tuple[str, ...]: ...

    def __len__(self) -> int: ...

    def values(self, column: str) -> pa.ChunkedArray:
        """Return one whole column."""
        ...

    def cell(self, column: str, position: int) -> object:
        """Return one value, without reading the column as a whole. Safe from several threads."""
        ...

    def class_names(self, column: str) -> dict[int, str] | None:
        """Return what the codes of a column mean, where the file itself says so."""
        ...


class TableStore:
    """A table held in memory."""

    def __init__(self, table: pa.Table, *, where: str, folder: Path) -> None:
        self.where = where
        self.folder = folder
        self.columns = tuple(table.column_names)
        twice = {name for name in self.columns if self.columns.count(name) > 1}
        if twice:
            raise DataError(f"{where} has two columns named {sorted(twice)[0]!r}.", hint="Rename one of them.")
        self._table = table.combine_chunks()

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def values(self, column: str) -> pa.ChunkedArray:
        return self._table.column(column)

    def cell(self, column: str, position: int) -> object:
        value: object = self._table.column(column)[position].as_py()
        return value

    def class_names(self, column: str) -> dict[int, str] | None:
        return names_in_metadata(self._table.schema.metadata, column)


def open_csv(path: Path, *, text_columns: tuple[str, ...]) -> TableStore:
    """Read a CSV file with a header line. ``text_columns`` stay text ("007"); other types are found by looking."""
    options = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(text_columns, pa.string()))
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        table = pyarrow.csv.read_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(block_size=_block_size(path)),
            convert_options=options,
            parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        )
        return TableStore(table, where=path.name, folder=path.parent)
    except (pa.ArrowException, UnicodeDecodeError) as problem:  # the latter for a header that is not text
        raise _unreadable(path, "CSV table", problem) from problem


def open_jsonl(path: Path) -> TableStore:
    """Read a file with one JSON object a line."""
    if path.stat().st_size == 0:
        raise DataError(f"{path.name} is empty.", hint="Expected one JSON object a line.")
    try:
        table = pyarrow.json.read_json(path, read_options=pyarrow.json.ReadOptions(block_size=_block_size(path)))
    except pa.ArrowException as problem:
        raise _unreadable(path, "table of JSON lines", problem) from problem
    return TableStore(table, where=path.name, folder=path.parent)


def open_folder(path: Path, content: Content) -> TableStore:
    """List the images or text files below a folder, by path: the first folder level is the label.

    Files that lie in no folder have no label. Links to folders are not followed; hidden files are left out.
    """
    found: list[str] = []
    for here, folders, files in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = Path(here).relative_to(path)
        found += [
            (below / name).as_posix()
            for name in files
            if name.lower().endswith(ENDINGS[content]) and not name.startswith(".")
        ]
    if not found:
        raise DataError(
            f"{path.name} holds no {content}s.",
            hint=f"Expected a folder for each class with {', '.join(ENDINGS[content])}.",
        )
    found.sort()
    labels = [name.split("/")[0] if "/" in name else None for name in found]
    table = pa.table({"id": found, content: found, "label": pa.array(labels, pa.string())})
    return TableStore(table, where=path.name, folder=path)


def names_in_metadata(metadata: dict[bytes, bytes] | None, column: str) -> dict[int, str] | None:
    """Return the class names that the Hugging Face ``datasets`` library writes into an Arrow or parquet schema."""
    if not metadata or b"huggingface" not in metadata:
        return None
    feature = json.loads(metadata[b"huggingface"]).get("info", {}).get("features", {}).get(column, {})
    if not isinstance(feature, dict) or feature.get("_type") != "ClassLabel" or not feature.get("names"):
        return None
    return dict(enumerate(feature["names"]))


def _block_size(path: Path) -> int:
    return min(max(path.stat().st_size + 1, 1024), _BLOCK_BYTES)


def _unreadable(path: Path, kind: str, problem: Exception) -> DataError:
    reason = str(problem).splitlines()[0][:200]
    return DataError(f"{path.name} cannot be read as a {kind}.", hint=f"The reader says: {reason}")
