"""Rows that are the very same, pixel for pixel or word for word, whatever their files are called or how encoded."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forwardinf_core.audits.leakage.medium import medium_of
from forwardinf_core.datasets.rows import DataRows


def identical_rows(
    queries: DataRows,
    train: DataRows,
    rows: NDArray[np.int64],
    values: NDArray[np.float32],
    names: tuple[str, ...],
) -> NDArray[np.bool_]:
    """Say which of the rows found for each query, (q, k), are that very row. ``values``: (q, k, s) likeness."""
    same_file: NDArray[np.bool_] = (queries.digests[:, None] == train.digests[rows]).all(2)
    medium = medium_of(queries.content)
    bounds = medium.close.items()
    close = np.all([values[:, :, names.index(name)] >= bound for name, bound in bounds], axis=0)
    found = same_file.copy()
    for query, place in np.argwhere(close & ~same_file):
        own, other = medium.taken(queries, [int(query)]), medium.taken(train, [int(rows[query, place])])
        (found[query, place],) = own.same_as(other)
    return found
