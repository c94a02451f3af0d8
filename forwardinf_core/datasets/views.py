"""The same rows seen otherwise: some of them, or all with other labels. Content is read from the rows underneath.

A view of image rows is image rows, and one of text rows text rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from forwardinf_core.datasets.identity import IdIndex, fingerprint_of
from forwardinf_core.datasets.rows import UNLABELLED, Content, DataRows, ImageRows, TextRows, images_of, texts_of
from forwardinf_core.errors import DataError, ShapeError

Viewed = TypeVar("Viewed", bound=DataRows)


class Subset(Generic[Viewed]):
    """Some rows, in the order given: what remains after removals, a retraining half, a sample."""

    def __init__(self, rows: Viewed, positions: ArrayLike) -> None:
        chosen = np.asarray(positions)
        if chosen.ndim != 1 or (len(chosen) and not np.issubdtype(chosen.dtype, np.integer)):
            raise ShapeError(f"Positions must be a list of whole numbers, not {chosen.dtype} of shape {chosen.shape}.")
        if len(chosen) and not (chosen.min() >= 0 and chosen.max() < len(rows)):
            raise DataError(
                f"Position {chosen.max() if chosen.min() >= 0 else chosen.min()} is not a row.",
                hint=f"Positions run from 0 to {len(rows) - 1}.",
            )
        self._rows = rows
        self._positions: NDArray[np.int64] = chosen.astype(np.int64)
        self.ids: Sequence[str] = [rows.ids[position] for position in self._positions]
        self._index = IdIndex(self.ids, "The selection")
        self.labels = rows.labels[self._positions]
        self.labels.flags.writeable = False
        self.classes = rows.classes
        self.columns = rows.columns
        self.content: Content = rows.content

    def __len__(self) -> int:
        return len(self._positions)

    @property
    def digests(self) -> NDArray[np.uint8]:
        return self._rows.digests[self._positions]

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint_of(self.ids, self.labels, self.classes, self.digests)

    def position(self, row_id: str) -> int:
        return self._index.position(row_id)

    def image(self: Subset[ImageRows], position: int) -> Image.Image:
        return images_of(self._rows).image(int(self._positions[position]))

    def text(self: Subset[TextRows], position: int) -> str:
        return texts_of(self._rows).text(int(self._positions[position]))

    def payload(self, position: int) -> bytes:
        return self._rows.payload(int(self._positions[position]))

    def column(self, name: str) -> NDArray[np.generic]:
        return self._rows.column(name)[self._positions]

    def labels_in(self, name: str) -> NDArray[np.int64]:
        return self._rows.labels_in(name)[self._positions]


class Relabelled(Generic[Viewed]):
    """All rows with other labels, (n,) indices into the same classes, −1 = none: planted errors, decisions applied."""

    def __init__(self, rows: Viewed, labels: ArrayLike) -> None:
        given = np.array(labels)
        if given.shape != (len(rows),):
            raise ShapeError(f"{given.shape} labels were given for {len(rows)} rows.", hint="Give one label a row.")
        if not np.issubdtype(given.dtype, np.integer):
            raise DataError(f"Labels must be whole numbers, not {given.dtype}.", hint="Give positions in the classes.")
        wrong = np.flatnonzero((given < UNLABELLED) | (given >= len(rows.classes)))
        if len(wrong):
            raise DataError(
                f"Label {given[wrong[0]]} of row {rows.ids[wrong[0]]} is not a class.",
                hint=f"Labels run from 0 to {len(rows.classes) - 1}, or {UNLABELLED} for none.",
            )
        self._rows = rows
        self.content: Content = rows.content
        self.labels: NDArray[np.int64] = given.astype(np.int64)
        self.labels.flags.writeable = False

    @property
    def ids(self) -> Sequence[str]:
        return self._rows.ids

    @property
    def classes(self) -> tuple[str, ...]:
        return self._rows.classes

    @property
    def columns(self) -> tuple[str, ...]:
        return self._rows.columns

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def digests(self) -> NDArray[np.uint8]:
        return self._rows.digests

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint_of(self.ids, self.labels, self.classes, self.digests)

    def position(self, row_id: str) -> int:
        return self._rows.position(row_id)

    def image(self: Relabelled[ImageRows], position: int) -> Image.Image:
        return images_of(self._rows).image(position)

    def text(self: Relabelled[TextRows], position: int) -> str:
        return texts_of(self._rows).text(position)

    def payload(self, position: int) -> bytes:
        return self._rows.payload(position)

    def column(self, name: str) -> NDArray[np.generic]:
        return self._rows.column(name)

    def labels_in(self, name: str) -> NDArray[np.int64]:
        return self._rows.labels_in(name)
