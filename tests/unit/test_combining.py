"""Cascades and averages of score tables."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_problems import classifier, row

from forwardinf_core.errors import AuditError, ShapeError
from forwardinf_core.influence.combining import (
    ChosenRows,
    average_scores,
    average_tables,
    shortlist_positions,
)
from forwardinf_core.influence.network import TensorRows
from forwardinf_core.influence.scores import ScoreTable
from forwardinf_core.influence.scoring import score_rows
from forwardinf_core.influence.step import take_steps
from forwardinf_core.influence.update import StepOptions


def table(score: list[float], scope: str = "head") -> ScoreTable:
    return ScoreTable(np.array(score, np.float32), np.ones(len(score), np.float32), scope)


def test_the_shortlist_takes_both_ends_in_row_order() -> None:
    score = np.array([0.1, -5.0, 3.0, 0.0, -0.2, 7.0, -6.0, 0.3], np.float32)
    assert shortlist_positions(score, 0.5).tolist() == [1, 2, 5, 6]
    assert shortlist_positions(score, 0.4).tolist() == [2, 5, 6]  # the odd row goes to the helpful end
    assert shortlist_positions(score, 0.001).tolist() == [5, 6]
    assert shortlist_positions(score, 1.0).tolist() == list(range(8))
    assert shortlist_positions(score[:1], 0.5).tolist() == [0]


@pytest.mark.parametrize("share", [0.0, -0.1, 1.5, float("nan")])
def test_a_share_outside_0_to_1_is_refused(share: float) -> None:
    with pytest.raises(AuditError, match="share"):
        shortlist_positions(np.zeros(4, np.float32), share)


def test_chosen_rows_are_read_in_runs_and_score_as_in_the_full_pass() -> None:
    network, rows = classifier()
    reads: list[tuple[int, int]] = []

    class Counted(TensorRows):
        def batch(self, start: int, stop: int) -> dict[str, torch.Tensor]:
            reads.append((start, stop))
            return super().batch(start, stop)

    updates = take_steps(network, [row(rows, 0)], StepOptions())
    positions = np.array([3, 4, 5, 9, 11, 12, 40])
    found = score_rows(network, ChosenRows(Counted(rows), positions), updates, None, batch_size=4)
    expected = score_rows(network, TensorRows(rows), updates, None, batch_size=60)[positions]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-6)
    assert reads == [(3, 6), (9, 10), (11, 13), (40, 41)]


def test_an_average_counts_models_alike_and_keeps_zero_and_sign() -> None:
    first = np.array([3.0, -4.0, 0.0, 0.0], np.float32)  # root mean square 2.5
    second = 1e-3 * np.array([2.0, 2.0, 0.0, 2.0], np.float32)  # √3 · 1e-3
    expected = (first / 2.5 + second / (np.sqrt(3.0) * 1e-3)) / 2
    np.testing.assert_allclose(average_scores([first, second]), expected, rtol=1e-6)
    assert average_scores([first, second])[2] == 0.0


def test_an_average_does_not_depend_on_the_size_of_one_models_scores() -> None:
    scores = np.random.default_rng(0).normal(size=(3, 50)).astype(np.float32)
    expected = average_scores(list(scores))
    np.testing.assert_allclose(average_scores([scores[0] * 1e4, scores[1], scores[2] * 1e-4]), expected, atol=1e-6)


def test_scores_that_are_all_zero_stay_zero() -> None:
    zero = np.zeros(5, np.float32)
    assert np.array_equal(average_scores([zero, zero]), zero)


def test_tables_are_averaged_with_their_base_losses() -> None:
    first = ScoreTable(np.array([1.0, -1.0], np.float32), np.array([0.5, 1.0], np.float32), "head")
    second = ScoreTable(np.array([2.0, 2.0], np.float32), np.array([1.5, 3.0], np.float32), "head")
    found = average_tables([first, second])
    np.testing.assert_allclose(found.score, [1.0, 0.0], atol=1e-7)
    np.testing.assert_allclose(found.base_loss, [1.0, 2.0])
    assert found.scope == "head"
    assert found.score.dtype == found.base_loss.dtype == np.float32


def test_tables_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(AuditError, match="one scope"):
        average_tables([table([1.0]), table([1.0], "full")])
    with pytest.raises(AuditError, match="one scope"):
        average_tables([])
    with pytest.raises(ShapeError, match="same rows"):
        average_tables([table([1.0]), table([1.0, 2.0])])
    half = table([1.0, 2.0])
    cascaded = ScoreTable(half.score, half.base_loss, "cascade", half.score)
    with pytest.raises(AuditError, match="before any cascade"):
        average_tables([cascaded, cascaded])
