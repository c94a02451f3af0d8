"""What the memorization audit says of every training row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from forwardinf_core.audits.memorization.reference import Reference


@dataclass(frozen=True, eq=False)
class Memorization:
    """A finished audit of n training rows, in their order.

    ``score`` (n,): probability of the row's label by its self-influence, never negative; higher = the model's answer
    on the row leans more on the row itself. Comparable within one run only. ``chance`` (n,): probability of the row's
    own label; ``loss`` (n,): its cross-entropy. ``reference``: what retraining said, where somebody asked.
    """

    run_id: str
    ids: tuple[str, ...]
    labels: NDArray[np.int64]
    score: NDArray[np.float64]
    chance: NDArray[np.float64]
    loss: NDArray[np.float64]
    options: Mapping[str, object]
    seconds: Mapping[str, float]
    reference: Reference | None = None

    @property
    def percentile(self) -> NDArray[np.float64]:
        """Share of rows with a lower score, 0 to 100; ties share their middle."""
        ranks: NDArray[np.float64] = 100 * (rankdata(self.score) - 0.5) / max(len(self.score), 1)
        return ranks

    def ranked(self) -> NDArray[np.int64]:
        """Return the positions of the rows, the most memorized first; by what retraining said where it is known."""
        value = self.score if self.reference is None else np.nan_to_num(self.reference.memorization, nan=-2.0)
        found: NDArray[np.int64] = np.argsort(-value, kind="stable").astype(np.int64)
        return found


def whole_percent(share: float) -> str:
    """Return a share in whole percent, with what is nearly nothing or nearly all said as such."""
    if share < 0.005:
        return "under 1%"
    return "over 99%" if share > 0.995 else f"{100 * share:.0f}%"


def sentence_of(found: Memorization, position: int) -> str:
    """Return what is known of a row in a sentence: figures only where retraining gave them, else called an estimate."""
    reference = found.reference
    if reference is not None and reference.is_said(position):
        without, given = whole_percent(reference.without_row[position]), whole_percent(reference.with_row[position])
        counts = f"{reference.n_without[position]} networks trained without it, {reference.n_with[position]} with it"
        return f"Without this row the model would give its label {without} instead of {given} ({counts})."
    above = math.floor(10 * found.percentile[position]) / 10  # never "more than 100%"
    return (
        f"Estimate: the model leans on this row for its own answer more than on {above:.1f}% of the rows for theirs. "
        "How much it would change without the row is known only after retraining."
    )
