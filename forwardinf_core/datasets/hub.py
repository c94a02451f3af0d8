"""Hugging Face ``datasets``: a folder that the library wrote, a local folder it can read, or a name on the hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow as pa

from forwardinf_core.errors import DataError

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


class DatasetStore:
    """A memory-mapped Arrow table as the ``datasets`` library opens it. Images stay encoded."""

    def __init__(self, dataset: Any, *, where: str, folder: Path) -> None:
        from datasets import Image

        self.where = where
        self.folder = folder
        self.columns = tuple(dataset.column_names)
        for name, feature in dataset.features.items():
            if isinstance(feature, Image):
                dataset = dataset.cast_column(name, Image(decode=False))
        self._dataset = dataset
        self._columns = {name: dataset.select_columns([name]).with_format("arrow") for name in self.columns}

    def __len__(self) -> int:
        return len(self._dataset)

    def values(self, column: str) -> pa.ChunkedArray:
        return self._columns[column][:].column(column)

    def cell(self, column: str, position: int) -> object:
        value: object = self._columns[column][position].column(column)[0].as_py()
        return value

    def class_names(self, column: str) -> dict[int, str] | None:
        names = getattr(self._dataset.features[column], "names", None)
        return dict(enumerate(names)) if names else None


def open_dataset(path: Path, *, name: str, split: str | None) -> DatasetStore:
    """Open a folder on disk if there is one at ``path``, else the data set ``name`` on the hub (needs a connection).

    Raises DataError if it is neither, or if it has several splits and none is named.
    """
    import datasets

    if not path.exists() and not _HUB_NAME.fullmatch(name):
        raise DataError(f"{name} does not exist.", hint="Expected a folder, or a hub name such as owner/name.")
    saved = path.is_dir() and ((path / "state.json").exists() or (path / "dataset_dict.json").exists())
    try:
        if saved:
            opened = datasets.load_from_disk(str(path))
        else:
            opened = datasets.load_dataset(str(path) if path.exists() else name)
    except (OSError, ValueError, ConnectionError, datasets.exceptions.DatasetsError) as problem:
        reason = (str(problem).splitlines() or [type(problem).__name__])[0][:200]
        raise DataError(
            f"The data set {name} cannot be opened.", hint=f"The datasets library says: {reason}"
        ) from problem
    if isinstance(opened, datasets.DatasetDict):
        if split is None and len(opened) == 1:
            split = next(iter(opened))
        if split not in opened:
            raise DataError(
                f"The data set {name} has no split {split!r}." if split else f"The data set {name} has several splits.",
                hint=f"Set split to one of: {', '.join(opened)}.",
            )
        opened = opened[split]
    return DatasetStore(opened, where=name, folder=path if path.exists() else Path.cwd())
