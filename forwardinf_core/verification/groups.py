r"""The mirrored influence hypothesis for a network: 30 groups of equal size with a rising share of wrong labels.

A share of the training rows D gets wrong labels, uniform over the other classes. Group G_k is drawn from the clean and
the wrong part so that k / 29 of it is wrong, and is as large as the wrong part. Train-to-test: Σ_V L(A(D ∖ G_k), V) −
L(A(D), V) over the queries V. Test-to-train, one mirrored training: Σ_{i∈G_k} L(A(D), i) − L(A(D ∪ V), i). Each is the
mean over several seeds, with which all trainings begin alike; positive = the group helps. (Ko et al. 2024, section 3.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from forwardinf_core.errors import DataError
from forwardinf_core.verification.retraining import Outcome, Task, failures

N_GROUPS = 30
LEAST_WRONG = 10  # rows in a group
RESAMPLES = 1_000

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class GroupPlan:
    """``n_rows`` training rows, then in the recipe's rows ``n_queries`` queries. ``wrong``: position → label."""

    n_rows: int
    n_queries: int
    wrong: dict[int, int]
    groups: tuple[NDArray[np.int64], ...]
    shares: tuple[float, ...]  # of wrong labels in each group
    seeds: tuple[int, ...]

    @cached_property
    def tasks(self) -> list[Task]:
        """For each seed: on all rows, on all rows and the queries, and without each group."""
        everything = np.arange(self.n_rows + self.n_queries, dtype=np.int64)
        found = []
        for seed in self.seeds:
            found.append(Task(everything[: self.n_rows], seed, self.wrong, "on all rows"))
            found.append(Task(everything, seed, self.wrong, "on all rows and the queries"))
            for number, group in enumerate(self.groups, start=1):
                kept = np.setdiff1d(everything[: self.n_rows], group)
                found.append(Task(kept, seed, self.wrong, f"without group {number}"))
        return found


@dataclass(frozen=True)
class GroupResult:
    """Both influences of every group (n_groups,), means over the seeds that succeeded, and by seed."""

    train_to_test: Floats
    mirrored: Floats
    train_to_test_by_seed: Floats  # (n_seeds, n_groups), NaN where a training failed
    mirrored_by_seed: Floats
    failed: tuple[str, ...]

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Groups that have both influences."""
        return np.isfinite(self.train_to_test) & np.isfinite(self.mirrored)


def make_plan(
    labels: NDArray[np.int64], n_queries: int, *, n_classes: int, share: float, seeds: Sequence[int], seed: int
) -> GroupPlan:
    """Return the plan for training rows with these labels: which get a wrong one, and the groups.

    Raises DataError where a group would be smaller than LEAST_WRONG.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(len(labels))
    n_wrong = len(labels) - int((1 - share) * len(labels))
    if n_wrong < LEAST_WRONG or len(labels) - n_wrong < n_wrong or n_classes < 2:
        raise DataError(
            f"{len(labels)} rows of {n_classes} classes are too few for groups of {share:.0%} with wrong labels.",
            hint=f"A group needs at least {LEAST_WRONG} rows, and at most half of the rows may be wrong.",
        )
    wrong, clean = order[-n_wrong:], order[:-n_wrong]
    others = (labels[wrong] + random.integers(1, n_classes, n_wrong)) % n_classes
    shares = np.linspace(0, 1, N_GROUPS)
    groups = []
    for part in shares:
        count = int(n_wrong * part)
        drawn = [random.choice(clean, n_wrong - count, replace=False), random.choice(wrong, count, replace=False)]
        groups.append(np.sort(np.concatenate(drawn)).astype(np.int64))
    relabelled = {int(row): int(label) for row, label in zip(wrong, others, strict=True)}
    return GroupPlan(len(labels), n_queries, relabelled, tuple(groups), tuple(shares.tolist()), tuple(seeds))


def group_influences(plan: GroupPlan, outcomes: Sequence[Outcome]) -> GroupResult:
    """Return both influences from the outcomes of the plan's tasks, watched on its rows (wrong labels) and queries."""
    n_seeds, per_seed = len(plan.seeds), 2 + len(plan.groups)
    losses = np.stack([outcome.losses.double().numpy() for outcome in outcomes]).reshape(n_seeds, per_seed, -1)
    base, added, without = losses[:, 0], losses[:, 1], losses[:, 2:]
    on_queries = without[:, :, plan.n_rows :].sum(2) - base[:, None, plan.n_rows :].sum(2)
    fell = base - added
    on_groups = np.stack([fell[:, group].sum(1) for group in plan.groups], 1)
    return GroupResult(
        mean_over_seeds(on_queries),
        mean_over_seeds(on_groups),
        on_queries,
        on_groups,
        failures(plan.tasks, outcomes),
    )


def mean_over_seeds(values: Floats) -> Floats:
    """Return the mean over the first axis of what is a number; NaN where nothing is."""
    known = np.isfinite(values)
    return np.asarray(
        np.divide(
            np.where(known, values, 0).sum(0), known.sum(0), out=np.full(values.shape[1:], np.nan), where=known.any(0)
        )
    )


def repeatability(by_seed: Floats) -> float:
    """Return how well the mean over the seeds (n_seeds, n_groups) would correlate with that of as many others.

    Spearman-Brown: k r / (1 + (k - 1) r) with r the mean correlation of two seeds. Two influences cannot be expected to
    correlate higher than the root of the product of theirs. NaN where there are fewer than two seeds without a failure.
    """
    whole = by_seed[np.isfinite(by_seed).all(1)]
    k = len(whole)
    if k < 2:
        return float("nan")
    r = (np.corrcoef(whole).sum() - k) / (k * (k - 1))
    return float(k * r / (1 + (k - 1) * r))


def bootstrap(
    a: Floats, b: Floats, statistic: Callable[[Floats, Floats], Floats], seed: int = 0
) -> tuple[float, float]:
    """Return the 95% interval of a statistic of paired values, the pairs drawn anew with replacement."""
    random = np.random.default_rng(seed)
    draws = random.integers(0, len(a), (len(a), RESAMPLES))
    low, high = np.nanpercentile(statistic(a[draws], b[draws]), (2.5, 97.5))
    return float(low), float(high)
