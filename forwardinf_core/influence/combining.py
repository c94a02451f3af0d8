r"""What is made of score tables: a cascade's shortlist, and the average over checkpoints or models.

Cascade: cheap scores pick a shortlist at both ends, a pass of the whole network over those rows re-scores it. Average:
over trained models, which adds 12 to 50% fidelity (docs/method.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from forwardinf_core.errors import AuditError, ShapeError
from forwardinf_core.influence.network import Rows
from forwardinf_core.influence.objective import Batch
from forwardinf_core.influence.scores import ScoreTable

AVERAGING = "mean of scores divided by their root mean square"
"""The rule of ``average_scores``, to be recorded with the options of a run."""


@dataclass(frozen=True)
class ChosenRows:
    """Some rows of others, in the order of ``positions``; rows that lie side by side are read together."""

    rows: Rows
    positions: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.positions)

    def batch(self, start: int, stop: int) -> Batch:
        chosen = self.positions[start:stop]
        runs = np.split(chosen, np.flatnonzero(np.diff(chosen) != 1) + 1)
        parts = [self.rows.batch(int(run[0]), int(run[-1]) + 1) for run in runs]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def shortlist_positions(score: NDArray[np.float32], share: float) -> NDArray[np.int64]:
    """Return, in order, the positions of the most helpful and the most harmful rows, half of ``share`` at each end.

    At least one row at each end; an odd row goes to the helpful end; ties by position.
    """
    if not 0 < share <= 1:
        raise AuditError(
            f"A shortlist cannot hold a share of {share} of the rows.", hint="Give a share above 0, up to 1."
        )
    count = min(max(round(share * len(score)), 2), len(score))
    n_helpful = count - count // 2
    order = np.argsort(-score, kind="stable")
    chosen = np.concatenate([order[:n_helpful], order[len(order) - count // 2 :]])
    return np.sort(chosen).astype(np.int64)


def average_scores(scores: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return the mean over models of their scores (n,), each first divided by its root mean square.

    Dividing makes models count alike whatever the size of their losses; nothing is subtracted, so 0 and the sign keep
    their meaning. Scores that are all 0 stay 0.
    """
    if len({column.shape for column in scores}) != 1:
        found = ", ".join(str(column.shape) for column in scores) or "none"
        raise ShapeError("Only scores of the same rows can be averaged.", hint=f"Shapes found: {found}.")
    total = np.zeros(scores[0].shape, dtype=np.float64)
    for column in scores:
        size = float(np.sqrt(np.mean(np.square(column, dtype=np.float64))))
        total += column / size if size > 0 else 0.0
    return (total / len(scores)).astype(np.float32)


def average_tables(tables: Sequence[ScoreTable]) -> ScoreTable:
    """Return one table of the same query over checkpoints or models: averaged scores, mean base loss."""
    if len({table.scope for table in tables}) != 1 or any(table.score_full is not None for table in tables):
        found = ", ".join(table.scope for table in tables) or "none"
        raise AuditError(
            "Only tables of one scope, before any cascade, can be averaged.", hint=f"Scopes found: {found}."
        )
    score = average_scores([table.score for table in tables])
    base_losses = np.stack([table.base_loss for table in tables])  # (n_tables, n)
    base_loss: NDArray[np.float32] = np.asarray(base_losses.mean(0, dtype=np.float64), dtype=np.float32)
    return ScoreTable(score, base_loss, tables[0].scope)
