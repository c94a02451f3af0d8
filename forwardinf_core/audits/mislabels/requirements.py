"""What a search for wrong labels needs, and what a person has to be told about the rows before trusting it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forwardinf_core.audits.mislabels.reasons import NEAR_EMPTY
from forwardinf_core.datasets.identity import listed
from forwardinf_core.datasets.rows import DataRows
from forwardinf_core.errors import DataError

FEWEST_ROWS = 10  # below, every held-out model and every neighbour is chance


def checked_labels(rows: DataRows) -> NDArray[np.int64]:
    """Return the labels of the training rows. Raises DataError, in a sentence, where nothing can be found in them."""
    labels = rows.labels
    unlabelled = int((labels < 0).sum())
    if unlabelled:
        raise DataError(
            f"{unlabelled} of {len(labels)} training rows have no label, so it cannot be wrong.",
            hint="Leave them out, or give them one.",
        )
    if len(labels) < FEWEST_ROWS:
        raise DataError(
            f"The training set has {len(labels)} rows, too few to tell a wrong label from a right one.",
            hint=f"At least {FEWEST_ROWS} are needed, better hundreds.",
        )
    present = np.unique(labels)
    if len(present) < 2:
        raise DataError(
            f"Every training row is labelled ‘{rows.classes[int(present[0])]}’.",
            hint="With one class no label can be wrong; check which column holds the labels.",
        )
    return labels.copy()


def notes_on(rows: DataRows, labels: NDArray[np.int64]) -> tuple[str, ...]:
    """Return what limits the ranking on these rows, a sentence each."""
    counts = np.bincount(labels, minlength=len(rows.classes))
    rare = np.flatnonzero((counts > 0) & (counts < NEAR_EMPTY))
    if not len(rare):
        return ()
    names = listed([f"‘{rows.classes[code]}’" for code in rare.tolist()])
    count = "One class has" if len(rare) == 1 else f"{len(rare)} classes have"
    return (f"{count} fewer than {NEAR_EMPTY} rows ({names}): their rows cannot be judged by others of their class.",)
