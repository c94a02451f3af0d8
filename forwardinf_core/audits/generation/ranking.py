"""The ranking that a trace supports: of all training images, or of those that a shortlist had scored.

A shortlist's first numbers (likeness) and its exact scores are never mixed: rows outside it have no place here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from forwardinf_core.audits.generation.records import Generation
from forwardinf_core.influence.scores import ScoreTable


@dataclass(frozen=True)
class Ranking:
    """The scored rows: ``positions`` (m,) among the training rows, ascending, and the table of their scores (m,)."""

    positions: NDArray[np.int64]
    scores: ScoreTable
    count: int  # of all training rows

    @property
    def is_whole(self) -> bool:
        """Say whether every training row was scored."""
        return len(self.positions) == self.count

    def top(self, count: int) -> NDArray[np.int64]:
        """Return the positions of the rows that helped most, best first."""
        return self.positions[self.scores.top(count)]

    def bottom(self, count: int) -> NDArray[np.int64]:
        """Return the positions of the rows that hurt most, worst first."""
        return self.positions[self.scores.bottom(count)]

    def place(self, position: int) -> int | None:
        """Return where a training row stands in ``scores``, None where it was not scored."""
        return self._places.get(position)

    @cached_property
    def _places(self) -> dict[int, int]:
        return {position: place for place, position in enumerate(self.positions.tolist())}


def ranking_of(found: Generation) -> Ranking:
    """Return the ranking of a trace."""
    table, full = found.scores, found.scores.score_full
    if full is None:
        return Ranking(np.arange(len(table.score)), table, len(table.score))
    kept = np.flatnonzero(np.isfinite(full))
    scores = ScoreTable(full[kept], table.base_loss[kept], table.scope)
    return Ranking(kept.astype(np.int64), scores, len(full))


@dataclass(frozen=True, slots=True)
class Group:
    """Training rows with one value in a column: their summed score, how many there are, how many were scored."""

    name: str
    score: float
    n_rows: int
    n_scored: int
    n_helped: int


def groups_of(ranking: Ranking, values: Sequence[str]) -> list[Group]:
    """Return the groups by the value of each training row (n,), the most helpful first."""
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    sums, scored, helped = dict.fromkeys(counts, 0.0), dict.fromkeys(counts, 0), dict.fromkeys(counts, 0)
    for position, score in zip(ranking.positions.tolist(), ranking.scores.score.tolist(), strict=True):
        sums[values[position]] += score
        scored[values[position]] += 1
        helped[values[position]] += score > 0
    found = [Group(name, sums[name], counts[name], scored[name], helped[name]) for name in counts]
    return sorted(found, key=lambda group: (-group.score, group.name))


@dataclass(frozen=True, slots=True)
class NoiseProfile:
    """One row's change of loss at each noise level it was looked at (draws,), as the score counts it.

    ``low`` and ``high`` (draws,) hold nine of ten scored rows at the same part of the schedule; ``middle`` is where
    that part lies.
    """

    timestep: NDArray[np.float32]
    change: NDArray[np.float32]
    middle: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]

    def shares(self) -> tuple[float, float, float]:
        """Return how much of the change, regardless of sign, lies in each third of the draws: little noise first."""
        parts = [float(np.abs(part).sum()) for part in np.array_split(self.change[np.argsort(self.timestep)], 3)]
        total = sum(parts) or 1.0
        return parts[0] / total, parts[1] / total, parts[2] / total


def profile_of(found: Generation, position: int) -> NoiseProfile | None:
    """Return how a row's loss changed by noise level, None where it was not scored."""
    change = found.by_draw[position]
    if not np.isfinite(change).all():
        return None
    scored = np.isfinite(found.by_draw).all(1)
    low, high = np.quantile(found.by_draw[scored], (0.05, 0.95), axis=0).astype(np.float32)
    return NoiseProfile(found.timesteps[position], change, found.timesteps[scored].mean(0), low, high)
