"""Rows as every audit sees them, wherever they came from and whatever they hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from forwardinf_core.errors import DataError

UNLABELLED = -1

Content = Literal["image", "text"]


class DataRows(Protocol):
    """Rows with stable ids, their content read on demand. Also the type of the test and trusted rows.

    ``content`` says what a row is. ``ids`` are unique strings. ``labels`` (n,) int64 index ``classes``; −1 = no label.
    ``digests`` (n, 32) uint8 are the SHA-256 of each row's payload. ``fingerprint`` is a SHA-256 over ids, labels,
    classes and digests: equal content, equal fingerprint, however the rows were opened or wrapped. ``columns`` names
    further columns, for display and evaluation only. Reads are safe from several threads.
    """

    @property
    def content(self) -> Content: ...

    @property
    def ids(self) -> Sequence[str]: ...

    @property
    def labels(self) -> NDArray[np.int64]: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def columns(self) -> tuple[str, ...]: ...

    @property
    def digests(self) -> NDArray[np.uint8]: ...

    @property
    def fingerprint(self) -> str: ...

    def __len__(self) -> int: ...

    def position(self, row_id: str) -> int:
        """Return the position of a row. Raises DataError that names near ids when there is none."""
        ...

    def payload(self, position: int) -> bytes:
        """Return the row's content as it is stored: an encoded image, a text in UTF-8."""
        ...

    def column(self, name: str) -> NDArray[np.generic]:
        """Return a further column. Raises DataError with the columns there are."""
        ...

    def labels_in(self, name: str) -> NDArray[np.int64]:
        """Return another column read as labels, (n,) indices into ``classes``, −1 = none: a reference label.

        Raises DataError where a value is not a class.
        """
        ...


class ImageRows(DataRows, Protocol):
    """Rows that are images, decoded on demand."""

    def image(self, position: int) -> Image.Image:
        """Return the decoded image, EXIF-rotated, in its own size, mode RGB (or L where all is grey)."""
        ...


class TextRows(DataRows, Protocol):
    """Rows that are texts."""

    def text(self, position: int) -> str:
        """Return the text as it is stored; empty where the row has none."""
        ...


def images_of(rows: DataRows) -> ImageRows:
    """Return the rows as images. Raises DataError where they are something else."""
    _require(rows, "image")
    return cast("ImageRows", rows)


def texts_of(rows: DataRows) -> TextRows:
    """Return the rows as texts. Raises DataError where they are something else."""
    _require(rows, "text")
    return cast("TextRows", rows)


def _require(rows: DataRows, content: Content) -> None:
    if rows.content != content:
        raise DataError(
            f"These rows are {rows.content}s, and this needs {content}s.", hint="Ask it of another project."
        )
