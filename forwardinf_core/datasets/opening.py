"""A user's image rows, from any source, as ``ImageRows``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from forwardinf_core.datasets.hub import open_dataset
from forwardinf_core.datasets.identity import IdIndex, digests_of, fingerprint_of, listed
from forwardinf_core.datasets.images import decode_image
from forwardinf_core.datasets.labels import Column, decode_labels, names_of_codes
from forwardinf_core.datasets.parquet import ParquetStore
from forwardinf_core.datasets.rows import UNLABELLED, ImageRows
from forwardinf_core.datasets.source import DEFAULT_COLUMNS, ImageSource
from forwardinf_core.datasets.stores import RowStore, open_csv, open_folder, open_jsonl
from forwardinf_core.errors import DataError


def open_image_rows(
    source: ImageSource, *, root: Path, classes: tuple[str, ...] | None, allow_outside: bool = False
) -> ImageRows:
    """Open image rows without reading the images. ``root`` is the project folder.

    ``classes`` are the model's, in output order; None takes them from the data. The fingerprint is computed when first
    asked for: it reads every image once. With ``allow_outside`` files may lie outside the project folder. Raises
    DataError where files, columns, ids or labels are wrong.
    """
    boundary = None if allow_outside else root.resolve()
    store = _open_store(source, root, boundary)
    if len(store) == 0:
        raise DataError(f"{store.where} has no rows.", hint="At least one row is needed.")
    return ImageTable(store, source, classes=classes, boundary=boundary)


class ImageTable:
    """The rows of one store. See ``ImageRows``."""

    def __init__(
        self, store: RowStore, source: ImageSource, *, classes: tuple[str, ...] | None, boundary: Path | None
    ) -> None:
        self._store = store
        self._boundary = boundary
        self._image_column = _column(store, source, "image") or ""
        if not self._image_column:
            raise _no_column(store, "image", "No column holds the images")
        self.ids: Sequence[str] = _ids(store, _column(store, source, "id"))
        self._index = IdIndex(self.ids, store.where)
        label_column = _column(store, source, "label")
        self._code_names = self._names_beside(label_column, source)
        if label_column is None:
            self.labels, self.classes = np.full(len(store), UNLABELLED, np.int64), classes or ()
        else:
            self.labels, self.classes = self._decode(label_column, classes)
        self.labels.flags.writeable = False
        self.columns = tuple(name for name in store.columns if name != self._image_column)
        if _is_text(store, self._image_column):
            self._check_files()

    def __len__(self) -> int:
        return len(self._store)

    @cached_property
    def digests(self) -> NDArray[np.uint8]:
        return digests_of((self.payload(position) for position in range(len(self))), len(self))

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint_of(self.ids, self.labels, self.classes, self.digests)

    def position(self, row_id: str) -> int:
        return self._index.position(row_id)

    def image(self, position: int) -> Image.Image:
        return decode_image(self.payload(position), name=self._name(position))

    def payload(self, position: int) -> bytes:
        value = self._store.cell(self._image_column, position)
        if isinstance(value, dict):  # as Hugging Face datasets writes images
            value = value.get("path") if value.get("bytes") is None else value["bytes"]
        if isinstance(value, bytes):
            return value
        if isinstance(value, str) and value:
            return self._read_file(value, position)
        if value is None or value == "":
            raise DataError(f"{self._name(position)} has no image.", hint="Leave the row out or give it an image.")
        raise DataError(
            f"{self._name(position)}: column {self._image_column!r} holds {type(value).__name__}, not an image.",
            hint="Expected image bytes, paths to image files, or records with bytes and path.",
        )

    def column(self, name: str) -> NDArray[np.generic]:
        self._require(name)
        values = self._store.values(name)
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        found: NDArray[np.generic] = values.to_numpy()
        return found

    def labels_in(self, name: str) -> NDArray[np.int64]:
        self._require(name)
        return self._decode(name, self.classes)[0]

    def _decode(self, name: str, classes: tuple[str, ...] | None) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        names = self._store.class_names(name) or self._code_names
        return decode_labels(self._named(name), names=names, classes=classes)

    def _names_beside(self, label_column: str | None, source: ImageSource) -> dict[int, str] | None:
        """Return what codes mean by a column of names: of the label column, or of the usual one beside it."""
        name_column = _column(self._store, source, "label_name")
        if name_column is None or label_column is None or _is_text(self._store, label_column):
            return None
        usual = DEFAULT_COLUMNS["label"]
        for codes in dict.fromkeys((label_column, usual)):
            if codes in self._store.columns and codes != name_column:
                names = names_of_codes(self._named(codes), self._named(name_column))
                if names is not None:
                    return names
        if source.label_name is None:
            return None
        raise DataError(
            f"{self._store.where}: column {name_column!r} does not name the codes of {label_column!r} one to one.",
            hint="Each code needs exactly one name; leave label_name out to use the codes as names.",
        )

    def _named(self, name: str) -> Column:
        return Column(name, self._store.values(name), self._store.where, self.ids)

    def _name(self, position: int) -> str:
        return f"Row {self.ids[position]} of {self._store.where}"

    def _require(self, name: str) -> None:
        if name not in self.columns:
            raise _no_column(self._store, name, f"There is no column {name!r}")

    def _read_file(self, value: str, position: int) -> bytes:
        path = self._store.folder / value
        if self._boundary is not None and not Path(os.path.realpath(path)).is_relative_to(self._boundary):
            raise self._outside(value, position)
        try:
            return path.read_bytes()
        except (OSError, ValueError) as problem:
            raise DataError(
                f"{self._name(position)}: the image file {value} cannot be read.", hint=f"{problem}."
            ) from problem

    def _check_files(self) -> None:
        """Raise DataError now, not in the middle of an audit, where image files are missing or lie outside."""
        folder_inside = lru_cache(maxsize=4096)(self._is_inside)
        missing = []
        for position, value in enumerate(self._store.values(self._image_column).to_pylist()):
            path = os.path.join(self._store.folder, value or "")
            if not folder_inside(os.path.dirname(path)):
                raise self._outside(str(value), position)
            if not os.path.isfile(path):
                missing.append(value or f"(none in row {self.ids[position]})")
        if missing:
            raise DataError(
                f"{self._store.where}: {len(missing)} of {len(self)} image files do not exist: {listed(missing)}.",
                hint=f"Paths start at {self._store.folder}.",
            )

    def _is_inside(self, folder: str) -> bool:
        return self._boundary is None or Path(os.path.realpath(folder)).is_relative_to(self._boundary)

    def _outside(self, value: str, position: int) -> DataError:
        return DataError(
            f"{self._name(position)}: the image file {value} lies outside the project folder.",
            hint="Move the images into the project folder, or allow files outside it.",
        )


def _open_store(source: ImageSource, root: Path, boundary: Path | None) -> RowStore:
    path = root / source.path
    if boundary is not None and not Path(os.path.realpath(path)).is_relative_to(boundary):
        raise DataError(
            f"{source.path} lies outside the project folder.",
            hint="Move it into the project folder, or allow files outside it.",
        )
    if source.kind == "datasets":
        return open_dataset(path, name=source.path, split=source.split)
    if source.kind == "parquet":
        return ParquetStore(_parquet_files(path, root, source.path), where=source.path)
    if not path.exists():
        raise _not_found(source.path, root)
    if path.is_dir() != (source.kind == "folder"):
        raise DataError(
            f"{source.path} is a {'folder' if path.is_dir() else 'file'}, not a {source.kind} source.",
            hint="Set kind to folder for class folders, or path to the file.",
        )
    if source.kind == "folder":
        return open_folder(path)
    if source.kind == "jsonl":
        return open_jsonl(path)
    text = (source.id or DEFAULT_COLUMNS["id"], source.image or DEFAULT_COLUMNS["image"])
    return open_csv(path, text_columns=(*text, source.label_name or DEFAULT_COLUMNS["label_name"]))


def _parquet_files(path: Path, root: Path, given: str) -> list[Path]:
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


def _column(store: RowStore, source: ImageSource, role: str) -> str | None:
    """Return the column for a role: the one named, else the usual one if it is there."""
    if source.kind == "folder":
        return role if role in store.columns else None
    named: str | None = getattr(source, role)
    if named is not None and named not in store.columns:
        raise _no_column(store, named, f"There is no column {named!r} for the {role.replace('_', ' ')}")
    usual = DEFAULT_COLUMNS[role]
    return named or (usual if usual in store.columns else None)


def _no_column(store: RowStore, wanted: str, title: str) -> DataError:
    return DataError(f"{title} in {store.where}.", hint=f"Columns found: {', '.join(store.columns)}. Wanted: {wanted}.")


def _is_text(store: RowStore, column: str) -> bool:
    return isinstance(store.cell(column, 0), str)


def _ids(store: RowStore, column: str | None) -> list[str]:
    if column is None:
        return [str(position) for position in range(len(store))]
    ids = store.values(column).to_pylist()
    empty = [position for position, value in enumerate(ids) if value is None or value == ""]
    if empty:
        raise DataError(
            f"{store.where} has {len(empty)} rows without an id in column {column!r}: rows number {listed(empty)}.",
            hint="Every row needs its own id; leave the id column out to number the rows instead.",
        )
    return [str(int(value)) if isinstance(value, float) and value.is_integer() else str(value) for value in ids]
