"""What is said before a leakage audit: what makes it pointless is an error, what makes parts of it unknown a note."""

from __future__ import annotations

import numpy as np

from forwardinf_core.audits.audit import Audit
from forwardinf_core.errors import DataError

FEWEST_TRAIN = 20  # rows to plant copies among and to tell them from


def check_rows(audit: Audit) -> tuple[str, ...]:
    """Return notes on the rows, a sentence each. Raises DataError where there is nothing to find out."""
    train, test = audit.train, audit.test
    word = "text" if audit.content == "text" else "picture"
    train_digests = {row.tobytes() for row in train.digests}
    test_digests = {row.tobytes() for row in test.digests}
    if len(train) < FEWEST_TRAIN:
        raise DataError(
            f"There are {len(train)} training rows, too few to tell a copy from a look-alike.",
            hint=f"The leakage audit needs at least {FEWEST_TRAIN}.",
        )
    if len(train_digests) == 1:
        raise DataError(
            f"All training rows are the same {word}, so every row is a copy of every other.",
            hint=f"Check the {audit.content} column of train: in project.yaml.",
        )
    if train_digests == test_digests:
        raise DataError(
            "Train and test are the same rows: every test row is in the training set.",
            hint="Point test: in project.yaml to rows that were held out.",
        )
    notes = []
    clashes = set(train.ids) & set(test.ids)
    if clashes:
        example = min(clashes)
        notes.append(
            f"{len(clashes):,} ids occur in both splits, for example ‘{example}’; rows are told apart by split and id, "
            "and an id in common is not taken as a sign of a copy."
        )
    unlabelled = int((np.asarray(test.labels) < 0).sum())
    if unlabelled:
        notes.append(
            f"{unlabelled:,} of {len(test):,} test rows have no label: whether their label agrees with the training "
            "row's is not known, and their influence is asked about the predicted class."
        )
    if audit.model.head is None:
        notes.append("The model has no linear head, so the influence of a training row on its copy is not computed.")
    return tuple(notes)
