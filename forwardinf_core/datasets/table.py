"""What rows of any content share once they are in a table: ids, labels, further columns, digests, fingerprint."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from forwardinf_core.datasets.identity import IdIndex, digests_of, fingerprint_of, listed
from forwardinf_core.datasets.labels import Column, decode_labels, names_of_codes
from forwardinf_core.datasets.rows import UNLABELLED, Content
from forwardinf_core.datasets.source import DEFAULT_COLUMNS, RowSource
from forwardinf_core.datasets.stores import RowStore
from forwardinf_core.errors import DataError


class Table(ABC):
    """The rows of one store; subclasses read the content. See ``DataRows``."""

    content: Content

    def __init__(self, store: RowStore, source: RowSource, *, classes: tuple[str, ...] | None) -> None:
        self._store = store
        self._content_column = column_for(store, source, self.content) or ""
        if not self._content_column:
            raise no_column(store, self.content, f"No column holds the {self.content}s")
        self.ids: Sequence[str] = _ids(store, column_for(store, source, "id"))
        self._index = IdIndex(self.ids, store.where)
        label_column = column_for(store, source, "label")
        self._code_names = self._names_beside(label_column, source)
        if label_column is None:
            self.labels, self.classes = np.full(len(store), UNLABELLED, np.int64), classes or ()
        else:
            self.labels, self.classes = self._decode(label_column, classes)
        self.labels.flags.writeable = False
        self.columns = tuple(name for name in store.columns if name != self._content_column)

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

    @abstractmethod
    def payload(self, position: int) -> bytes: ...

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

    def name_of(self, position: int) -> str:
        """Return how errors call a row."""
        return f"Row {self.ids[position]} of {self._store.where}"

    def _decode(self, name: str, classes: tuple[str, ...] | None) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        names = self._store.class_names(name) or self._code_names
        return decode_labels(self._named(name), names=names, classes=classes)

    def _names_beside(self, label_column: str | None, source: RowSource) -> dict[int, str] | None:
        """Return what codes mean by a column of names: of the label column, or of the usual one beside it."""
        name_column = column_for(self._store, source, "label_name")
        if name_column is None or label_column is None or holds_text(self._store, label_column):
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

    def _require(self, name: str) -> None:
        if name not in self.columns:
            raise no_column(self._store, name, f"There is no column {name!r}")


def column_for(store: RowStore, source: RowSource, role: str) -> str | None:
    """Return the column for a role: the one named, else the usual one if it is there."""
    if source.kind == "folder":
        return role if role in store.columns else None
    named: str | None = getattr(source, role)
    if named is not None and named not in store.columns:
        raise no_column(store, named, f"There is no column {named!r} for the {role.replace('_', ' ')}")
    usual = DEFAULT_COLUMNS[role]
    return named or (usual if usual in store.columns else None)


def no_column(store: RowStore, wanted: str, title: str) -> DataError:
    """Return the error for a column that is not there."""
    return DataError(f"{title} in {store.where}.", hint=f"Columns found: {', '.join(store.columns)}. Wanted: {wanted}.")


def holds_text(store: RowStore, column: str) -> bool:
    """Say whether a column holds texts, by its first value."""
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
