"""Rows that are the same picture, pixel for pixel, whatever their files are called or how they are encoded."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from forwardinf_core.audits.leakage.traces import GREY, HASH
from forwardinf_core.datasets.rows import ImageRows

CLOSE = 0.9999  # correlation of the grey pictures from which pixels are worth comparing


def identical_rows(
    queries: ImageRows,
    train: ImageRows,
    rows: NDArray[np.int64],
    values: NDArray[np.float32],
    names: tuple[str, ...],
) -> NDArray[np.bool_]:
    """Say which of the rows found for each query, (q, k), are that very picture. ``values``: (q, k, s) likeness."""
    same_file: NDArray[np.bool_] = (queries.digests[:, None] == train.digests[rows]).all(2)
    close = (values[:, :, names.index(GREY)] >= CLOSE) & (values[:, :, names.index(HASH)] >= CLOSE)
    found = same_file.copy()
    for query, place in np.argwhere(close & ~same_file):
        found[query, place] = same_pixels(queries.image(int(query)), train.image(int(rows[query, place])))
    return found


def same_pixels(first: Image.Image, second: Image.Image) -> bool:
    """Say whether two images show the same pixels, grey or colour."""
    if first.size != second.size:
        return False
    return first.convert("RGB").tobytes() == second.convert("RGB").tobytes()
