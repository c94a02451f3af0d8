"""Which rows a memorization screen shows: by class and score, the most memorized first; and a row's nearest rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.context import AtOnce
from forwardinf_core.audits.memorization.records import Memorization
from forwardinf_core.influence.head import FEATURES
from forwardinf_core.influence.likeness import fitted_space
from forwardinf_core.influence.network import slices

BINS = 44
BLOCK = 4_096


@dataclass(frozen=True, slots=True)
class Chosen:
    """``label``: a class, or None for all. ``low`` and ``high``: ends of the value that rows are ranked by, or None."""

    label: int | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, eq=False)
class Bars:
    """A histogram: ``low``, ``high`` and ``rows`` of each bar. ``is_log``: the axis is that of log10."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    rows: NDArray[np.int64]
    is_log: bool


def value_of(found: Memorization) -> NDArray[np.float64]:
    """Return what rows are ranked by: memorization where retraining gave it, else log10 of the score."""
    if found.reference is not None:
        return found.reference.memorization
    return powers_of_ten(found.score)


def powers_of_ten(score: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log10 of scores; what is 0 stands with the smallest that is not."""
    positive = score[score > 0]
    floor = positive.min() if len(positive) else 1.0
    value: NDArray[np.float64] = np.log10(np.maximum(score, floor))
    return value


def chosen_rows(found: Memorization, chosen: Chosen) -> NDArray[np.int64]:
    """Return the positions asked for, the most memorized first."""
    order, value = found.ranked(), value_of(found)
    keep = np.ones(len(order), dtype=np.bool_)
    if chosen.label is not None:
        keep &= found.labels[order] == chosen.label
    if chosen.low is not None and chosen.high is not None:
        keep &= (value[order] >= chosen.low) & (value[order] <= chosen.high)
    return order[keep]


def histogram(found: Memorization, label: int | None) -> Bars:
    """Return the histogram of the rows of a class, or of all, over the range of all rows."""
    value = value_of(found)
    return bars_of(value, value if label is None else value[found.labels == label], is_log=found.reference is None)


def bars_of(value: NDArray[np.float64], rows: NDArray[np.float64], *, is_log: bool) -> Bars:
    """Return the histogram of some rows' values over the range of all, ``value``."""
    known = value[np.isfinite(value)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    counts, edges = np.histogram(rows[np.isfinite(rows)], np.linspace(low, high, BINS + 1))
    return Bars(edges[:-1], edges[1:], counts.astype(np.int64), is_log)


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The training rows in the space of the features before the head, whitened; for nearest rows."""

    points: NDArray[np.float32]

    def nearest(self, position: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the positions of the nearest other rows and their cosines, the nearest first."""
        alike = self.points @ self.points[position]
        alike[position] = -np.inf
        order = np.argsort(-alike, kind="stable")[: min(count, len(alike) - 1)]
        return order.astype(np.int64), alike[order]


def neighbours_of(audit: Audit) -> Neighbours | None:
    """Return the space of nearest rows, or None where the model has no head to take features from."""
    if audit.model.head is None or not audit.is_ready("head"):
        return None
    scope = audit.workplace(AtOnce()).scope("head")
    features = scope.rows.batch(0, len(scope.rows))[FEATURES]
    space = fitted_space(features, whiten=True)
    return Neighbours(torch.cat([space.place(features[a:b]) for a, b in slices(len(features), BLOCK)]).numpy())
