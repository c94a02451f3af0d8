r"""Linear datamodelling score: do summed scores predict what retraining on a subset does to a query?

For a query q and random halves S of the training rows: the rank correlation, over S, of Σ_{i∈S} score_i with the
outcome of networks trained on S, averaged over seeds; then the mean over queries (Park et al. 2023, "TRAK", section 2;
Ilyas et al. 2022). The outcome is the log-odds of the query's label, higher = surer, so a score that is positive for
rows that help gives a positive result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from forwardinf_core.errors import DataError, ShapeError

Floats = NDArray[np.float64]

MIN_SUBSETS = 10  # fewer ranks say nothing
RESAMPLES = 1_000
COVERAGE = (2.5, 97.5)  # percentiles of the bootstrap: a 95% interval


@dataclass(frozen=True)
class Truth:
    """Outcomes of retrained subsets, ready to be compared with any number of methods.

    ``subsets`` (n_subsets, n_half) positions; ``outcomes`` (n_seeds, n_subsets, n_queries), NaN where a training
    failed. A subset whose every seed failed is named in ``failed`` and left out.
    """

    subsets: NDArray[np.int64]
    outcomes: Floats
    failed: tuple[int, ...] = ()

    @staticmethod
    def of(subsets: NDArray[np.int64], outcomes: Floats) -> Truth:
        """Return the truth without subsets that have no outcome. Raises ShapeError, or DataError where few are left."""
        if outcomes.ndim != 3 or outcomes.shape[1] != len(subsets):
            raise ShapeError(
                f"Outcomes have shape {outcomes.shape}, and there are {len(subsets)} subsets.",
                hint="Expected (seeds, subsets, queries).",
            )
        usable = np.isfinite(outcomes).all(axis=2).any(axis=0)
        if usable.sum() < MIN_SUBSETS:
            raise DataError(
                f"Only {usable.sum()} of {len(subsets)} subsets were retrained, and {MIN_SUBSETS} are the least.",
                hint="Ask for more subsets; 100 give a useful interval.",
            )
        failed = tuple(int(i) for i in np.flatnonzero(~usable))
        return Truth(subsets[usable], outcomes[:, usable], failed)

    @property
    def mean(self) -> Floats:
        """Outcome of each subset on each query, averaged over the seeds that succeeded, (n_subsets, n_queries)."""
        return np.asarray(np.nanmean(self.outcomes, axis=0))

    def of_queries(self, queries: Sequence[int]) -> Truth:
        """Return the truth of some of the queries."""
        return Truth(self.subsets, self.outcomes[:, :, list(queries)], self.failed)


@dataclass(frozen=True, slots=True)
class Lds:
    """The score with its 95% interval over subsets and queries, and per query.

    ``left_out``: queries without a rank correlation (all scores equal, as with a zero gradient). ``ceiling``: what a
    perfect prediction would reach against outcomes this noisy; NaN with one seed.
    """

    lds: float
    low: float
    high: float
    per_query: Floats  # (n_queries,), NaN where left out
    left_out: tuple[int, ...]
    ceiling: float


def subset_sums(scores: Floats, subsets: NDArray[np.int64]) -> Floats:
    """Return Σ_{i∈S} score_i for every subset and query; scores (n_queries, n_train) -> (n_subsets, n_queries)."""
    member = np.zeros((len(subsets), scores.shape[1]))
    np.put_along_axis(member, subsets, 1.0, axis=1)
    return np.asarray(member @ scores.T)


def spearman(a: Floats, b: Floats) -> Floats:
    """Return the rank correlation of the columns, ties sharing their mean rank; NaN where a column is constant."""
    ranks_a, ranks_b = (rankdata(x, axis=0) for x in (a, b))
    ranks_a -= ranks_a.mean(axis=0)
    ranks_b -= ranks_b.mean(axis=0)
    size = np.sqrt((ranks_a**2).sum(axis=0) * (ranks_b**2).sum(axis=0))
    product = (ranks_a * ranks_b).sum(axis=0)
    return np.asarray(np.divide(product, size, out=np.full_like(product, np.nan), where=size > 0))


def linear_datamodelling_score(scores: Floats, truth: Truth, *, seed: int = 0, resamples: int = RESAMPLES) -> Lds:
    """Compare scores (n_queries, n_train), positive = helped, with the truth.

    The interval comes from drawing subsets and queries anew, with replacement, ``resamples`` times.
    Raises ShapeError where queries differ and DataError where no query has a rank correlation.
    """
    if scores.ndim != 2 or scores.shape[0] != truth.outcomes.shape[2]:
        raise ShapeError(
            f"Scores have shape {scores.shape}, and outcomes are of {truth.outcomes.shape[2]} queries.",
            hint="Expected (queries, training rows).",
        )
    predicted, outcome = subset_sums(scores, truth.subsets), truth.mean
    per_query = spearman(predicted, outcome)
    usable = np.isfinite(per_query)
    if not usable.any():
        raise DataError(
            "No query can be compared: the scores of every one are all equal.",
            hint="A query that the model has fitted completely has a zero gradient; ask about its margin instead.",
        )
    draws = _resampled(predicted[:, usable], outcome[:, usable], np.random.default_rng(seed), resamples)
    low, high = np.percentile(draws, COVERAGE) if resamples else (np.nan, np.nan)
    left_out = tuple(int(i) for i in np.flatnonzero(~usable))
    return Lds(float(per_query[usable].mean()), float(low), float(high), per_query, left_out, noise_ceiling(truth))


def noise_ceiling(truth: Truth) -> float:
    r"""Return the rank correlation that a perfect prediction would have with the mean over the seeds.

    With r the mean rank correlation between single seeds, the mean over k of them has reliability
    R = k r / (1 + (k − 1) r) (Spearman and Brown 1910), and the noiseless truth correlates with it by √R.
    NaN with one seed; 0 where seeds agree less than chance.
    """
    complete = truth.outcomes[:, np.isfinite(truth.outcomes).all(axis=(0, 2))]
    k = len(complete)
    if k < 2 or complete.shape[1] < MIN_SUBSETS:
        return float("nan")
    pairs = [np.nanmean(spearman(complete[i], complete[j])) for i in range(k) for j in range(i)]
    agreement = max(float(np.mean(pairs)), 0.0)
    return float(np.sqrt(k * agreement / (1.0 + (k - 1) * agreement)))


def _resampled(predicted: Floats, outcome: Floats, random: np.random.Generator, resamples: int) -> Floats:
    n_subsets, n_queries = predicted.shape
    means = np.empty(resamples)
    for draw in range(resamples):
        subsets = random.integers(n_subsets, size=n_subsets)
        queries = random.integers(n_queries, size=n_queries)
        cells = np.ix_(subsets, queries)
        means[draw] = np.nanmean(spearman(predicted[cells], outcome[cells]))
    return means
