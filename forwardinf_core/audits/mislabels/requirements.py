"""What a search for wrong labels needs, and what a person has to be told about the rows before trusting it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.mislabels.reasons import NEAR_EMPTY
from forwardinf_core.audits.mislabels.signals import DEFAULT, IMAGES_ONLY, SIGNALS, TEXTS_ONLY, TRUSTED_ONLY
from forwardinf_core.datasets.identity import listed
from forwardinf_core.datasets.rows import DataRows
from forwardinf_core.errors import DataError, ModelError
from forwardinf_core.verification.recipes import can_be_retrained

MOST_WRONG = 0.4  # share of wrong labels from which the ranking may be upside down
FEWEST_ROWS = 10  # below, every held-out model and every neighbour is chance


def checked_labels(rows: DataRows) -> Tensor:
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
    return torch.from_numpy(labels.copy())


def check_request(audit: Audit, method: str, *, retrained: int, networks: int) -> None:
    """Raise DataError, saying what is missing, where this project or these options have no such signal."""
    if method != DEFAULT and method not in SIGNALS:
        raise DataError(f"There is no signal {method!r}.", hint=f"There are: {', '.join((DEFAULT, *SIGNALS))}.")
    if method in TRUSTED_ONLY and audit.project.config.trusted is None:
        raise DataError(
            f"The signal {method} needs trusted rows.", hint="Name a small clean set as trusted: in project.yaml."
        )
    if method in IMAGES_ONLY and audit.train.content != "image":
        raise DataError(f"The signal {method} is for images.", hint="Ask for another signal.")
    if (retrained or networks) and not can_be_retrained(audit):
        raise ModelError(
            f"A model of kind {audit.model.kind} cannot be retrained here: how it was trained is not known.",
            hint="Search without networks: heads on its features leave rows out in seconds.",
        )
    if method in TEXTS_ONLY and audit.train.content != "text":
        raise DataError(f"The signal {method} is for texts.", hint="Ask for another signal.")
    if method == "aum" and not audit.project.config.checkpoints:
        raise DataError("The signal aum needs checkpoints.", hint="List them as checkpoints: in project.yaml.")
    if (method == "retrained" and not retrained) or (method == "networks" and not networks):
        raise DataError(f"The signal {method} is computed on request.", hint=f"Add --{method} N.")


def notes_on(rows: DataRows, labels: NDArray[np.int64], chance: NDArray[np.float32]) -> tuple[str, ...]:
    """Return what limits the ranking on these rows, a sentence each."""
    counts = np.bincount(labels, minlength=len(rows.classes))
    rare = np.flatnonzero((counts > 0) & (counts < NEAR_EMPTY))
    notes: tuple[str, ...] = ()
    if chance.mean() > MOST_WRONG:
        notes = (
            f"About {100 * chance.mean():.0f}% of the labels look wrong. Where most are, no model can tell which: "
            "check the label column, or give a trusted set.",
        )
    if not len(rare):
        return notes
    names = listed([f"‘{rows.classes[code]}’" for code in rare.tolist()])
    count = "One class has" if len(rare) == 1 else f"{len(rare)} classes have"
    return (
        *notes,
        f"{count} fewer than {NEAR_EMPTY} rows ({names}): their rows cannot be judged by others of their class.",
    )
