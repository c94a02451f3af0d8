r"""Does an answer hold? Retrain without the rows that are said to have helped most, and look at the query again.

Beside the k most helpful rows, as many are removed in three other ways: drawn at random, drawn at random with the
same labels (a harder comparison: losing rows of the query's class hurts by itself), and the k most harmful. Every
seed trains once on all rows and once without each kind, so that changes are differences within a seed; intervals are
Student's t over the seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from forwardinf_core.errors import DataError
from forwardinf_core.verification.checks import Verdict
from forwardinf_core.verification.retraining import Outcome, Task

Kind = Literal["top", "random", "alike", "lowest"]
Scope = Literal["head", "model"]
KINDS: tuple[Kind, ...] = ("top", "random", "alike", "lowest")
WORDS: dict[Kind, str] = {
    "top": "without the most helpful rows",
    "random": "without random rows",
    "alike": "without random rows of the same labels",
    "lowest": "without the most harmful rows",
}
DEFAULT_SHARE = 0.02  # of the rows: few enough to leave the model as it is, enough to be felt
MOST_SHARE = 0.25  # of the rows: beyond, random rows and the chosen ones are the same rows
HELD_BACK = 0.1  # of the rows, left out by each seed of a head, which has no randomness of its own
COVERAGE = 0.95
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Change:
    """What removing rows of one kind did to the query, one entry a seed that succeeded.

    ``rise`` is the change of the query's loss, ``margin`` that of the log-odds of the class asked about, ``chance``
    that of its probability; ``turned`` is the share of seeds in which the prediction became another.
    """

    kind: Kind
    rise: Floats
    margin: Floats
    chance: Floats
    turned: float

    @property
    def mean(self) -> float:
        """Mean rise of the loss over the seeds."""
        return float(self.rise.mean()) if len(self.rise) else float("nan")


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and its 95% interval (Student's t); NaN ends with fewer than two seeds."""

    mean: float
    low: float
    high: float

    @staticmethod
    def of(values: Floats) -> Interval:
        """Return mean and interval of one value a seed."""
        mean = float(values.mean()) if len(values) else float("nan")
        if len(values) < 2:
            return Interval(mean, float("nan"), float("nan"))
        half = float(student.ppf(0.5 + COVERAGE / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
        return Interval(mean, mean - half, mean + half)


@dataclass(frozen=True)
class Chosen:
    """Rows to remove, positions ascending: the same top and lowest for every seed, the random ones anew for each."""

    top: NDArray[np.int64]
    lowest: NDArray[np.int64]
    random: tuple[NDArray[np.int64], ...]
    alike: tuple[NDArray[np.int64], ...]

    def of(self, kind: Kind, seed: int) -> NDArray[np.int64]:
        """Return the rows that a seed removes."""
        match kind:
            case "top":
                return self.top
            case "lowest":
                return self.lowest
            case "random":
                return self.random[seed]
            case "alike":
                return self.alike[seed]


def default_k(n_rows: int) -> int:
    """Return how many rows are removed where nobody says."""
    return max(1, round(DEFAULT_SHARE * n_rows))


def choose(scores: NDArray[np.float32], labels: NDArray[np.int64], k: int, seeds: int) -> Chosen:
    """Return the rows to remove. ``scores`` (n,) positive = helped; ties by position.

    Raises DataError where fewer than ``k`` rows helped at all, or ``k`` is too large a part of the rows.
    """
    n_rows = len(scores)
    if not 1 <= k <= MOST_SHARE * n_rows:
        raise DataError(
            f"{k} of {n_rows:,} rows cannot be removed for this check.",
            hint=f"k is 1 to {int(MOST_SHARE * n_rows):,}; beyond, too little is left to compare with.",
        )
    helpful = int((scores > 0).sum())
    if helpful < k:
        raise DataError(
            f"Only {helpful:,} training rows helped this query, and {k} are to be removed.",
            hint=f"Ask with k of {helpful} or fewer." if helpful else "Ask about another class or query.",
        )
    order = np.argsort(-scores, kind="stable")
    top = np.sort(order[:k])
    lowest = np.sort(np.argsort(scores, kind="stable")[:k])
    others = np.setdiff1d(np.arange(n_rows), top)
    draws = [np.random.default_rng([seed, 1]) for seed in range(seeds)]
    random = tuple(np.sort(draw.choice(others, k, replace=False)) for draw in draws)
    alike = tuple(_alike(labels, top, others, draw) for draw in draws)
    return Chosen(top, lowest, random, alike)


def _alike(
    labels: NDArray[np.int64], top: NDArray[np.int64], others: NDArray[np.int64], draw: np.random.Generator
) -> NDArray[np.int64]:
    """Return random rows with as many of each label as the top rows have; fewer where a label has no more rows."""
    parts = []
    for label, count in zip(*np.unique(labels[top], return_counts=True), strict=True):
        pool = others[labels[others] == label]
        parts.append(draw.choice(pool, min(int(count), len(pool)), replace=False))
    return np.sort(np.concatenate(parts)).astype(np.int64)


def ladder(n_rows: int, chosen: Chosen, seeds: int, scope: Scope) -> dict[tuple[str, int], Task]:
    """Return every training by (kind or "all", seed).

    A head trained on the same rows is always the same, so there each seed first leaves out a tenth of the rows that no
    kind removes, the same for all of its trainings; a network has its first weights and order to vary.
    """
    tasks: dict[tuple[str, int], Task] = {}
    for seed in range(seeds):
        missing = _held_back(n_rows, chosen, seed) if scope == "head" else np.empty(0, np.int64)
        tasks["all", seed] = Task.without(n_rows, missing, seed, name="on all rows")
        for kind in KINDS:
            dropped = np.concatenate([missing, chosen.of(kind, seed)])
            tasks[kind, seed] = Task.without(n_rows, dropped, seed, name=WORDS[kind])
    return tasks


def _held_back(n_rows: int, chosen: Chosen, seed: int) -> NDArray[np.int64]:
    removed = np.concatenate([chosen.of(kind, seed) for kind in KINDS])
    free = np.setdiff1d(np.arange(n_rows), removed)
    count = min(round(HELD_BACK * n_rows), len(free) // 2)
    return np.sort(np.random.default_rng([seed, 2]).choice(free, count, replace=False)).astype(np.int64)


def whole_seeds(outcomes: Mapping[tuple[str, int], Outcome], seeds: int) -> list[int]:
    """Return the seeds all of whose trainings succeeded. The others are left out of everything."""
    return [seed for seed in range(seeds) if not any(outcomes[kind, seed].failed for kind in ("all", *KINDS))]


def changes(outcomes: Mapping[tuple[str, int], Outcome], seeds: Sequence[int]) -> dict[Kind, Change]:
    """Return what each kind of removal did. ``outcomes`` are of the query alone, judged by the class asked about."""
    found: dict[Kind, Change] = {}
    for kind in KINDS:
        pairs = [(outcomes["all", seed], outcomes[kind, seed]) for seed in seeds]
        turned = [int(after.outputs.argmax()) != int(before.outputs.argmax()) for before, after in pairs]
        found[kind] = Change(
            kind,
            _differences([(float(a.losses[0]), float(b.losses[0])) for a, b in pairs]),
            _differences([(float(a.margins[0]), float(b.margins[0])) for a, b in pairs]),
            _differences([(chance(a), chance(b)) for a, b in pairs]),
            float(np.mean(turned)) if turned else float("nan"),
        )
    return found


def chance(outcome: Outcome) -> float:
    """Return the probability that a network gives the class asked about."""
    return float(np.exp(-float(outcome.losses[0])))


def _differences(pairs: Sequence[tuple[float, float]]) -> Floats:
    return np.array([after - before for before, after in pairs], dtype=np.float64)


def beyond(one: Change, other: Change) -> Interval:
    """Return by how much more the loss rose in one way than in the other, seed by seed."""
    return Interval.of(one.rise - other.rise)


def verdict_of(found: Mapping[Kind, Change]) -> Verdict:
    """Return green where removing the helpful rows surely raises the loss more than random rows do, amber where it
    does so on average, red where it does not."""
    more = beyond(found["top"], found["random"])
    if not (more.mean > 0 and found["top"].mean > 0):
        return "red"
    return "green" if more.low > 0 else "amber"


RULE = (
    "Green: the loss rises, and the 95% interval of how much more than without random rows lies above 0. "
    "Amber: it does so on average only. Red: it does not."
)
