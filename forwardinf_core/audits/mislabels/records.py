"""A finished search for wrong labels, as the review, the command line and exports read it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from forwardinf_core.audits.mislabels.reasons import Case, reasons_for
from forwardinf_core.errors import DataError


@dataclass(frozen=True)
class Suspects:
    """All training rows with how suspicious their labels are. Arrays are in the order of the training rows.

    Scores compare within one run. ``signals`` holds every signal that was computed, higher = more suspicious each.
    ``likely`` are the classes a row may really have, by falling share; the given label may be among them.
    """

    run_id: str
    method: str  # what ``score`` is: "default", or the name of a signal
    ids: tuple[str, ...]
    classes: tuple[str, ...]
    label: NDArray[np.int64]  # (n,)
    suggested: NDArray[np.int64]  # (n,) the label to put in its place; equal to ``label`` where none is better
    score: NDArray[np.float32]  # (n,)
    likely: NDArray[np.int64]  # (n, ≤9)
    likely_share: NDArray[np.float32]  # (n, ≤9)
    signals: dict[str, NDArray[np.float32]]  # each (n,)
    wrong_chance: NDArray[np.float32]  # (n,) estimated chance that the label is wrong, as planted errors calibrate it
    n_wrong: float  # estimated number of wrong labels
    n_wrong_by_class: NDArray[np.float32]  # (n_classes,) of the rows labelled with the class
    expected_precision: NDArray[np.float32]  # (n,) entry k − 1: share of wrong labels among the k highest scores
    nearest: NDArray[np.int32]  # (n, ≤30)
    trusted_ids: tuple[str, ...]
    trusted_labels: NDArray[np.int64]  # (n_trusted,)
    trusted_against: NDArray[
        np.int32
    ]  # (n, ≤5) positions in the trusted rows; −1 = none; width 0 without a trusted set
    notes: tuple[str, ...]  # what a person has to know before trusting the ranking, a sentence each
    created: float

    def by(self, method: str) -> Suspects:
        """Return the same search ranked by one of its signals. Raises DataError with the signals there are."""
        if method == self.method:
            return self
        if method not in self.signals:
            raise DataError(
                f"This search has no signal {method!r}.", hint=f"It has: default, {', '.join(self.signals)}."
            )
        score = self.signals[method]
        return replace(self, method=method, score=score, expected_precision=precision_by_cut(score, self.wrong_chance))

    @property
    def ranking(self) -> NDArray[np.int64]:
        """Positions by falling score, (n,); equal scores in the order of the rows."""
        return np.argsort(-self.score, kind="stable")

    def neighbours(self, position: int) -> NDArray[np.int64]:
        """Return the positions of the nearest training rows, nearest first, (≤30,)."""
        found: NDArray[np.int64] = self.nearest[position].astype(np.int64)
        return found

    def against(self, position: int) -> NDArray[np.int64]:
        """Return positions among the trusted rows of those that speak against the row's label, strongest first."""
        found: NDArray[np.int64] = self.trusted_against[position].astype(np.int64)
        return found[found >= 0]

    def reasons(self, position: int) -> tuple[str, ...]:
        """Return why the row is suspicious, or why it is not, the weightiest first."""
        label = int(self.label[position])
        shares = dict(zip(self.likely[position].tolist(), self.likely_share[position].tolist(), strict=True))
        against = self.against(position)
        return reasons_for(
            Case(
                classes=self.classes,
                label=label,
                suggested=int(self.suggested[position]),
                shares=shares,
                neighbour_labels=self.label[self.nearest[position]],
                against_labels=self.trusted_labels[against],
                signals={name: float(values[position]) for name, values in self.signals.items()},
                class_size=int((self.label == label).sum()),
            )
        )


def precision_by_cut(score: NDArray[np.float32], chance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean chance of the k highest scores at entry k − 1, (n,)."""
    sums = chance[np.argsort(-score, kind="stable")].cumsum(dtype=np.float64)
    return np.asarray(sums / np.arange(1, len(sums) + 1), np.float32)
