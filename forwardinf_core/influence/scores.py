r"""One signed number per training row: positive = the row helped the query (learning it lowers the query's loss)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """Scores of all training rows for one query, in training-set order.

    ``score`` (n,) float32: positive = helped, negative = hurt; comparable within one table only.
    ``base_loss`` (n,) float32: the row's loss under the unchanged model.
    ``score_full`` (n,) float32: of a cascade, the score from the second, exact pass over the shortlist, NaN elsewhere.
    The two kinds are never mixed in one ranking.
    ``scope`` says which parameters moved: head, tail, full or cascade.
    """

    score: NDArray[np.float32]
    base_loss: NDArray[np.float32]
    scope: str
    score_full: NDArray[np.float32] | None = None
    percentile: NDArray[np.float32] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "percentile", percentiles(self.score))

    def top(self, count: int) -> NDArray[np.int64]:
        """Return positions of the most helpful rows, best first; ties by position. Only rows with a score above 0."""
        order = np.argsort(-self.score, kind="stable")[:count]
        return order[self.score[order] > 0].astype(np.int64)

    def bottom(self, count: int) -> NDArray[np.int64]:
        """Return positions of the most harmful rows, worst first; ties by position. Only rows with a score below 0."""
        order = np.argsort(self.score, kind="stable")[:count]
        return order[self.score[order] < 0].astype(np.int64)


def percentiles(score: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return, for each score, the share (0 to 100) of all rows whose score is at most as large; ties share a value."""
    ordered = np.sort(score)
    return (100.0 * np.searchsorted(ordered, score, side="right") / max(len(score), 1)).astype(np.float32)
