"""The trusted rows as the head reads them, and what is wrong with them: rows of the training set, wrong labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.context import Context
from forwardinf_core.datasets.identity import listed
from forwardinf_core.datasets.rows import DataRows
from forwardinf_core.errors import DataError
from forwardinf_core.influence.head import FEATURES
from forwardinf_core.influence.network import slices
from forwardinf_core.models.rows import ModelRows

FEWEST = 4  # labelled rows: two to learn and two to choose the step
FEW = 200  # below, a step on them was not better than the model's own loss (docs/mislabels.md)
BATCH = 200


@dataclass(frozen=True)
class Trusted:
    """Labelled trusted rows: ids, labels (m,), features (m, d) as the model's head reads them."""

    ids: tuple[str, ...]
    labels: Tensor
    features: Tensor
    notes: tuple[str, ...]


def trusted_of(audit: Audit, context: Context) -> Trusted | None:
    """Return the project's trusted rows; None where it has none or its model has no head to step on."""
    rows = audit.project.trusted_rows(audit.classes)
    if rows is None or audit.model.head is None:
        return None
    labelled = np.flatnonzero(rows.labels >= 0)
    if len(labelled) < FEWEST:
        raise DataError(
            f"The trusted set has {len(labelled)} labelled rows, and at least {FEWEST} are needed.",
            hint="Add rows whose labels are certain (some hundred help most), or leave trusted: out of project.yaml.",
        )
    features = features_of(audit, rows, context)[torch.from_numpy(labelled)]
    ids = tuple(str(rows.ids[position]) for position in labelled.tolist())
    labels = torch.from_numpy(rows.labels[labelled].copy())
    return Trusted(ids, labels, features, (*_overlap(audit, rows), *_size(len(labelled), len(rows))))


@torch.inference_mode()
def features_of(audit: Audit, rows: DataRows, context: Context) -> Tensor:
    """Return what the model's head reads of further rows, (m, d)."""
    scope = audit.workplace(context).scope("head")
    found = []
    source = ModelRows(audit.model, rows, needs_labels=False)
    for start, stop in slices(len(rows), BATCH):
        found.append(scope.embed(source.batch(start, stop))[FEATURES].float())
        context.report(stop, len(rows), "Reading the trusted rows")
    return torch.cat(found)


def doubt_notes(trusted: Trusted, losses: Tensor, limit: float) -> tuple[str, ...]:
    """Return a note where trusted labels look wrong: their loss under a head fitted on training rows is over a limit.

    ``limit``: the loss from which a training label is very likely wrong, as planted errors calibrate it.
    """
    doubted = np.flatnonzero(losses.numpy() > limit)
    if not len(doubted):
        return ()
    named = listed([trusted.ids[position] for position in doubted.tolist()], 5)
    return (
        f"{len(doubted)} of {len(trusted.ids)} trusted labels look wrong themselves: {named}. Check them first: what "
        "the trusted set gets wrong, the ranking takes for right.",
    )


def _overlap(audit: Audit, rows: DataRows) -> tuple[str, ...]:
    known: dict[bytes, int] = {}
    for position, digest in enumerate(audit.train.digests):
        known.setdefault(digest.tobytes(), position)
    pairs = [
        (position, known[digest.tobytes()]) for position, digest in enumerate(rows.digests) if digest.tobytes() in known
    ]
    if not pairs:
        return ()
    differ = sum(rows.labels[here] != audit.train.labels[there] for here, there in pairs)
    named = listed([rows.ids[here] for here, _ in pairs], 3)
    shared = f"{len(pairs)} of {len(rows)} trusted rows are training rows too ({named})"
    return (f"{shared}, {differ} of them with another label there.",)


def _size(labelled: int, total: int) -> tuple[str, ...]:
    notes = []
    if labelled < total:
        notes.append(f"{total - labelled} trusted rows have no label and are not used.")
    if labelled < FEW:
        notes.append(f"{labelled} trusted rows are few: from about {FEW} on they tell more than the model itself.")
    return tuple(notes)
