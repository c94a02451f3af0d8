"""The linear datamodelling score against cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from forwardinf_core.errors import DataError, ShapeError
from forwardinf_core.verification.lds import (
    Truth,
    linear_datamodelling_score,
    noise_ceiling,
    spearman,
    subset_sums,
)
from forwardinf_core.verification.retraining import half_subsets

N_TRAIN, N_QUERIES, N_SUBSETS = 40, 6, 60


@pytest.fixture
def effects() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(N_QUERIES, N_TRAIN))


def truth_of(effects: np.ndarray, *, noise: float = 0.0, seeds: int = 1, count: int = N_SUBSETS) -> Truth:
    """Return outcomes that are linear in the rows, exp-transformed (ranks must not mind), plus noise per seed."""
    subsets = half_subsets(N_TRAIN, count, seed=1)
    exact = subset_sums(effects, subsets)
    random = np.random.default_rng(2)
    outcomes = np.exp((exact + noise * random.normal(size=(seeds, *exact.shape))) / 10)
    return Truth.of(subsets, outcomes)


def test_half_subsets_are_random_halves_that_do_not_depend_on_the_count() -> None:
    halves = half_subsets(41, 5, seed=3)
    assert halves.shape == (5, 20)
    assert all(len(set(half)) == 20 and list(half) == sorted(half) for half in halves)
    assert np.array_equal(halves, half_subsets(41, 9, seed=3)[:5])
    assert not np.array_equal(halves, half_subsets(41, 5, seed=4))


def test_too_few_rows_for_halves_are_refused() -> None:
    with pytest.raises(DataError, match="at least 4 training rows, and there are 3"):
        half_subsets(3, 5, seed=0)


def test_subset_sums_equal_a_plain_loop(effects: np.ndarray) -> None:
    subsets = half_subsets(N_TRAIN, 7, seed=0)
    expected = [[effects[q, half].sum() for q in range(N_QUERIES)] for half in subsets]
    np.testing.assert_allclose(subset_sums(effects, subsets), expected)


def test_rank_correlation_equals_scipys_with_ties() -> None:
    random = np.random.default_rng(0)
    a, b = random.integers(0, 5, (30, 4)).astype(float), random.normal(size=(30, 4))
    expected = [spearmanr(a[:, j], b[:, j]).statistic for j in range(4)]
    np.testing.assert_allclose(spearman(a, b), expected)


def test_true_effects_score_one_and_their_negative_minus_one(effects: np.ndarray) -> None:
    truth = truth_of(effects)
    result = linear_datamodelling_score(effects, truth, resamples=50)
    assert result.lds == pytest.approx(1.0)
    assert (result.low, result.high) == pytest.approx((1.0, 1.0))
    assert linear_datamodelling_score(-effects, truth, resamples=5).lds == pytest.approx(-1.0)


def test_scale_of_the_scores_of_a_query_does_not_matter(effects: np.ndarray) -> None:
    truth = truth_of(effects, noise=3.0)
    scaled = effects * np.arange(1, N_QUERIES + 1)[:, None]
    first, second = (linear_datamodelling_score(scores, truth, resamples=5) for scores in (effects, scaled))
    np.testing.assert_allclose(first.per_query, second.per_query)


def test_random_scores_are_near_zero_and_the_interval_says_so(effects: np.ndarray) -> None:
    random = np.random.default_rng(5).normal(size=effects.shape)
    result = linear_datamodelling_score(random, truth_of(effects, count=200), resamples=200)
    assert result.low < 0.0 < result.high
    assert abs(result.lds) < 0.2


def test_the_noise_ceiling_is_what_the_true_effects_reach(effects: np.ndarray) -> None:
    truth = truth_of(effects, noise=3.0, seeds=4, count=2_000)
    reached = linear_datamodelling_score(effects, truth, resamples=0).lds
    assert noise_ceiling(truth) == pytest.approx(reached, abs=0.03)
    assert noise_ceiling(truth_of(effects, seeds=2)) == pytest.approx(1.0)
    assert np.isnan(noise_ceiling(truth_of(effects)))


def test_a_query_with_equal_scores_is_left_out_and_named(effects: np.ndarray) -> None:
    scores = effects.copy()
    scores[2] = 0.0
    result = linear_datamodelling_score(scores, truth_of(effects), resamples=5)
    assert result.left_out == (2,)
    assert np.isnan(result.per_query[2])
    assert result.lds == pytest.approx(1.0)
    with pytest.raises(DataError, match="No query can be compared"):
        linear_datamodelling_score(np.zeros_like(effects), truth_of(effects))


def test_a_failed_retraining_is_left_out_and_named(effects: np.ndarray) -> None:
    whole = truth_of(effects, seeds=2)
    outcomes = whole.outcomes.copy()
    outcomes[:, 4] = np.nan  # every seed of subset 4
    outcomes[0, 7] = np.nan  # one seed of subset 7
    truth = Truth.of(whole.subsets, outcomes)
    assert truth.failed == (4,)
    assert len(truth.subsets) == N_SUBSETS - 1
    assert linear_datamodelling_score(effects, truth, resamples=5).lds == pytest.approx(1.0)


def test_too_few_outcomes_and_wrong_shapes_are_refused(effects: np.ndarray) -> None:
    truth = truth_of(effects)
    with pytest.raises(DataError, match="Only 9 of 60 subsets"):
        Truth.of(truth.subsets, np.where(np.arange(N_SUBSETS)[None, :, None] < 9, truth.outcomes, np.nan))
    with pytest.raises(ShapeError, match="outcomes are of 6 queries"):
        linear_datamodelling_score(effects[:3], truth)
    with pytest.raises(ShapeError, match="there are 60 subsets"):
        Truth.of(truth.subsets, truth.outcomes[:, :50])
