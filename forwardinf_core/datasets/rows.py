"""Rows as every audit sees them, wherever they came from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

UNLABELLED = -1


class ImageRows(Protocol):
    """Image rows with stable ids, decoded on demand. Also the type of the test and trusted rows.

    ``ids`` are unique strings. ``labels`` (n,) int64 index ``classes``; −1 = no label. ``digests`` (n, 32) uint8 are
    the SHA-256 of each row's encoded image. ``fingerprint`` is a SHA-256 over ids, labels, classes and digests: equal
    content, equal fingerprint, however the rows were opened or wrapped. ``columns`` names further columns, for display
    and evaluation only. Reads are safe from several threads.
    """

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

    def image(self, position: int) -> Image.Image:
        """Return the decoded image, EXIF-rotated, in its own size, mode RGB (or L where all is grey)."""
        ...

    def payload(self, position: int) -> bytes:
        """Return the encoded image as it is stored."""
        ...

    def column(self, name: str) -> NDArray[np.generic]:
        """Return a further column. Raises DataError with the columns there are."""
        ...

    def labels_in(self, name: str) -> NDArray[np.int64]:
        """Return another column read as labels, (n,) indices into ``classes``, −1 = none: a reference label.

        Raises DataError where a value is not a class.
        """
        ...
