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

    ``ids`` are unique strings. ``labels`` (n,) int64 index ``classes``; −1 = no label. ``fingerprint`` is a SHA-256
    over ids, labels and image bytes. ``columns`` holds further columns by name, for display and evaluation only.
    """

    ids: Sequence[str]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    fingerprint: str

    def __len__(self) -> int: ...

    def position(self, row_id: str) -> int:
        """Return the position of a row. Raises DataError that names near ids when there is none."""
        ...

    def image(self, position: int) -> Image.Image:
        """Return the decoded image, EXIF-rotated, in its own size, mode RGB (or L where all is grey)."""
        ...

    def column(self, name: str) -> NDArray[np.generic]:
        """Return a further column. Raises DataError with the columns there are."""
        ...
