r"""Memorization by retraining, as Feldman and Zhang measure it (NeurIPS 2020, arXiv 2008.03703, section 2).

Networks are trained on random halves of the rows. For a row, the mean probability of its label over the networks that
saw it, less that over those that did not, is how much its own presence changes its own prediction. They count right
answers; probabilities say the same with less noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from forwardinf_core.datasets.rows import UNLABELLED
from forwardinf_core.verification.retraining import Outcome, Task

FEWEST = 8  # networks on either side before a row's estimate is said in words


@dataclass(frozen=True, eq=False)
class Reference:
    """Mean probability of each row's label with and without it in training, (n,); NaN where no network was on a side.

    ``error``: standard error of the difference. ``n_with`` and ``n_without``: networks on either side.
    """

    with_row: NDArray[np.float64]
    without_row: NDArray[np.float64]
    error: NDArray[np.float64]
    n_with: NDArray[np.int64]
    n_without: NDArray[np.int64]

    @property
    def memorization(self) -> NDArray[np.float64]:
        """How much a row's presence raises the probability of its label, −1 to 1."""
        return self.with_row - self.without_row

    def is_said(self, position: int) -> bool:
        """Say whether enough networks stand behind a row's estimate to say it in words."""
        return bool(min(self.n_with[position], self.n_without[position]) >= FEWEST)


def reference_of(tasks: Sequence[Task], outcomes: Sequence[Outcome], n_rows: int) -> Reference:
    """Return the estimate from networks that watched all training rows first; failed trainings are left out."""
    found = [None if outcome.failed else probabilities(outcome, n_rows) for outcome in outcomes]
    return reference_of_chances(tasks, found, n_rows)


def reference_of_chances(tasks: Sequence[Task], found: Sequence[NDArray[np.float64] | None], n_rows: int) -> Reference:
    """Return the estimate from what each network gave every row, (n_rows,); None where its training failed."""
    sums, squares, counts = (np.zeros((2, n_rows)) for _ in range(3))
    for task, chances in zip(tasks, found, strict=True):
        if chances is None:
            continue
        seen = np.zeros(n_rows, dtype=np.int64)
        seen[task.subset] = 1
        every = np.arange(n_rows)
        sums[seen, every] += chances
        squares[seen, every] += chances**2
        counts[seen, every] += 1
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = sums / counts
        variance = (squares - counts * mean**2).clip(0) / (counts - 1)
        error = np.sqrt((variance / counts).sum(0))
    whole = counts.astype(np.int64)
    return Reference(mean[1], mean[0], error, whole[1], whole[0])


def probabilities(outcome: Outcome, n_rows: int) -> NDArray[np.float64]:
    """Return the probability of each of the first ``n_rows`` watched rows' own label; NaN where it has none."""
    labels = outcome.labels[:n_rows]
    chances = outcome.outputs[:n_rows].double().softmax(1).gather(1, labels.clamp_min(0).unsqueeze(1)).squeeze(1)
    found: NDArray[np.float64] = torch.where(labels == UNLABELLED, torch.nan, chances).numpy()
    return found
