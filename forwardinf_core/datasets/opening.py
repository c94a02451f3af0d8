"""A user's rows, from any source, as ``ImageRows`` or ``TextRows``."""

from __future__ import annotations

import os
from pathlib import Path

from forwardinf_core.datasets.hub import open_dataset
from forwardinf_core.datasets.image_table import ImageTable
from forwardinf_core.datasets.parquet import ParquetStore
from forwardinf_core.datasets.rows import Content, DataRows, ImageRows, TextRows
from forwardinf_core.datasets.source import DEFAULT_COLUMNS, RowSource
from forwardinf_core.datasets.stores import RowStore, open_csv, open_folder, open_jsonl
from forwardinf_core.datasets.text_table import TextTable
from forwardinf_core.errors import DataError


def open_rows(
    source: RowSource, content: Content, *, root: Path, classes: tuple[str, ...] | None, allow_outside: bool = False
) -> DataRows:
    """Open rows of a kind of content without reading it. ``root`` is the project folder.

    ``classes`` are the model's, in output order; None takes them from the data. The fingerprint is computed when first
    asked for: it reads every row once. With ``allow_outside`` files may lie outside the project folder. Raises
    DataError where files, columns, ids or labels are wrong.
    """
    opener = open_image_rows if content == "image" else open_text_rows
    return opener(source, root=root, classes=classes, allow_outside=allow_outside)


def open_image_rows(
    source: RowSource, *, root: Path, classes: tuple[str, ...] | None, allow_outside: bool = False
) -> ImageRows:
    """Open image rows; see ``open_rows``."""
    boundary = None if allow_outside else root.resolve()
    return ImageTable(_filled_store(source, "image", root, boundary), source, classes=classes, boundary=boundary)


def open_text_rows(
    source: RowSource, *, root: Path, classes: tuple[str, ...] | None, allow_outside: bool = False
) -> TextRows:
    """Open text rows; see ``open_rows``."""
    boundary = None if allow_outside else root.resolve()
    return TextTable(_filled_store(source, "text", root, boundary), source, classes=classes)


def _filled_store(source: RowSource, content: Content, root: Path, boundary: Path | None) -> RowStore:
    store = _open_store(source, content, root, boundary)
    if len(store) == 0:
        raise DataError(f"{store.where} has no rows.", hint="At least one row is needed.")
    return store


def _open_store(source: RowSource, content: Content, root: Path, boundary: Path | None) -> RowStore:
    path = root / source.path
    if boundary is not None and not Path(os.path.realpath(path)).is_relative_to(boundary):
        raise DataError(
            f"{source.path} lies outside the project folder.",
            hint="Move it into the project folder, or allow files outside it.",
        )
    if source.kind == "datasets":
        return open_dataset(path, name=source.path, split=source.split)
    if source.kind == "parquet":
        return ParquetStore(parquet_files(path, root, source.path), where=source.path)
    if not path.exists():
        raise _not_found(source.path, root)
    if path.is_dir() != (source.kind == "folder"):
        raise DataError(
            f"{source.path} is a {'folder' if path.is_dir() else 'file'}, not a {source.kind} source.",
            hint="Set kind to folder for class folders, or path to the file.",
        )
    if source.kind == "folder":
        return open_folder(path, content)
    if source.kind == "jsonl":
        return open_jsonl(path)
    named = (getattr(source, role) or DEFAULT_COLUMNS[role] for role in ("id", content, "label_name"))
    return open_csv(path, text_columns=tuple(named))


def parquet_files(path: Path, root: Path, given: str) -> list[Path]:
    """Return the file, the parquet files of a folder, or those that match a pattern such as ``train-*.parquet``."""
    if path.is_file():
        return [path]
    found = sorted(path.glob("*.parquet")) if path.is_dir() else []
    if not found and "*" in given and not Path(given).is_absolute():
        found = sorted(root.glob(given))
    if not found:
        raise _not_found(given, root)
    return found


def _not_found(given: str, root: Path) -> DataError:
    return DataError(f"{given} does not exist.", hint=f"Looked in {root.resolve()}.")
