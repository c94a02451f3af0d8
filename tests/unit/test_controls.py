"""Controls: made-up scores get the verdict they deserve, and the demo's own head passes every one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from forwardinf_core.audits.audit import Audit
from forwardinf_core.store.runs import list_runs
from forwardinf_core.verification.checks import Check, at_least, at_most
from forwardinf_core.verification.controls import (
    instant_controls,
    overlap,
    randomised,
    rank_correlation,
    shuffled,
    steady,
    unchanged,
    within_labels,
)

N_ROWS = 400


@pytest.fixture
def scores() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(6, N_ROWS)).astype(np.float32)


def test_the_rank_correlation_is_that_of_ranks_and_nan_where_one_is_constant(scores: np.ndarray) -> None:
    assert rank_correlation(scores[0], np.exp(scores[0])) == pytest.approx(1.0)
    assert rank_correlation(scores[0], -scores[0]) == pytest.approx(-1.0)
    assert np.isnan(rank_correlation(scores[0], np.zeros(N_ROWS, np.float32)))


def test_agreement_by_label_alone_is_no_agreement_within_labels(scores: np.ndarray) -> None:
    labels = np.arange(N_ROWS) % 4
    a, b = (scores[i] + 100 * labels.astype(np.float32) for i in (0, 1))
    assert rank_correlation(a, b) > 0.9
    assert abs(within_labels(a, b, labels)) < 0.2
    assert randomised(np.stack([a]), np.stack([b]), labels).verdict == "green"
    assert randomised(np.stack([a]), np.stack([a]), labels).verdict == "red"


def test_only_an_exact_zero_passes_as_unchanged() -> None:
    assert unchanged(0.0, 10).verdict == "green"
    assert unchanged(1e-9, 10).verdict == "red"


def test_the_worst_of_several_changes_decides_how_steady_a_ranking_is(scores: np.ndarray) -> None:
    assert steady("step", scores, [scores, 3 * scores]).verdict == "green"
    assert steady("step", scores, [scores, scores[::-1]]).verdict == "red"


def test_the_same_rows_for_every_query_are_red_and_different_ones_green(scores: np.ndarray) -> None:
    labels = np.arange(6)
    assert overlap(scores, labels).verdict == "green"
    same = np.repeat(scores[:1], 6, axis=0)
    assert overlap(same, labels).figure == 1.0
    assert overlap(same, labels).verdict == "red"


def test_a_figure_that_is_no_number_is_red() -> None:
    assert at_least(float("nan"), 0.9, 0.5) == "red"
    assert at_most(float("nan"), 0.1, 0.5) == "red"


def test_shuffling_keeps_the_values_and_follows_the_seed() -> None:
    own = torch.arange(12.0).view(3, 4)
    first, again = (shuffled(own, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, own)
    assert torch.equal(first.flatten().sort().values, own.flatten())


def test_the_demos_head_passes_every_control_and_they_are_read_back(digits_audit: Audit) -> None:
    found = instant_controls(digits_audit)
    assert found is not None
    assert {check.name for check in found} == {"unchanged", "randomised", "step", "dtype", "overlap"}
    assert {check.verdict for check in found} == {"green"}
    before = len(list_runs(digits_audit.project, "controls"))
    assert instant_controls(digits_audit) == found
    assert len(list_runs(digits_audit.project, "controls")) == before == 1
    assert all(Check.of(check.record()) == check for check in found)
