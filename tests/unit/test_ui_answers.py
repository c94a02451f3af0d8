"""How answers are cut, ordered, counted and put into words for the screens."""

from __future__ import annotations

import numpy as np
import pytest

from forwardinf_core.audits.records import Attribution, MethodReport, Prediction
from forwardinf_core.audits.records import TestPredictions as Predictions  # pytest would collect it
from forwardinf_core.influence.scores import ScoreTable
from forwardinf_core.ui import answers, wording

IDS = ("a-1", "a-2", "b-1", "b-2")


def said() -> Predictions:
    """Rows 1 and 2 are wrong, row 2 the more confident of them; row 3 has no label."""
    return Predictions(
        prediction=np.array([0, 1, 2, 0]),
        confidence=np.array([0.9, 0.6, 0.8, 0.5], dtype=np.float32),
        label=np.array([0, 0, 1, -1]),
        loss=np.zeros(4, dtype=np.float32),
    )


def answered(scores: list[float], prediction: int = 0, label: int = 1) -> Attribution:
    table = ScoreTable(np.array(scores, dtype=np.float32), np.zeros(len(scores), dtype=np.float32), "head")
    shares = np.array([0.6, 0.3, 0.1], dtype=np.float32)
    report = MethodReport("head", "head", {}, 0.1, 0.2)
    return Attribution("run", "test:a", Prediction(shares, prediction, 0.6, label), 0, report, table, 0.0, 4, {})


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("Wrong first", [2, 1, 0, 3]),
        ("Only wrong", [2, 1]),
        ("Least sure first", [3, 1, 2, 0]),
        ("As in the file", [0, 1, 2, 3]),
    ],
)
def test_test_rows_come_in_the_order_asked_for(order: str, expected: list[int]) -> None:
    assert answers.browse(said(), IDS, order=order, code=None, search="").tolist() == expected


def test_a_class_keeps_rows_that_have_it_as_label_or_as_prediction() -> None:
    assert answers.browse(said(), IDS, order="As in the file", code=1, search="").tolist() == [1, 2]


def test_a_search_keeps_rows_whose_id_contains_it_whatever_the_case() -> None:
    assert answers.browse(said(), IDS, order="As in the file", code=None, search=" B- ").tolist() == [2, 3]


def test_bins_count_every_score_once_and_are_symmetric_about_zero() -> None:
    scores = np.random.default_rng(0).standard_cauchy(5000).astype(np.float32)
    bins = answers.bin_scores(scores)
    assert bins.count.sum() == len(scores)
    np.testing.assert_allclose(bins.low, -bins.high[::-1], rtol=1e-9)
    edges = [bins.place(score) for score in bins.low.tolist()]
    np.testing.assert_allclose(edges, np.arange(len(edges)) / len(edges), atol=1e-9)


def test_scores_that_are_all_zero_still_make_bins() -> None:
    assert answers.bin_scores(np.zeros(10, dtype=np.float32)).count.sum() == 10


def test_rows_in_a_range_come_strongest_first() -> None:
    scores = np.array([0.1, -0.5, 0.3, 0.9], dtype=np.float32)
    assert answers.in_range(scores, -0.6, 0.4).tolist() == [1, 2, 0]


def test_the_row_that_opens_by_itself_hurt_where_the_model_is_wrong_and_helped_where_it_is_right() -> None:
    ids = ("x", "y", "z")
    assert answers.open_row(answered([0.5, -0.2, 0.1]), "", ids) == 1
    assert answers.open_row(answered([0.5, -0.2, 0.1], label=0), "", ids) == 0
    assert answers.open_row(answered([0.5, -0.2, 0.1]), "z", ids) == 2
    assert answers.open_row(answered([0.5, -0.2, 0.1]), "gone", ids) is None
    assert answers.open_row(answered([0.0, 0.0, 0.0]), "", ids) is None


def test_the_classes_shown_always_hold_the_label_and_the_class_asked_about() -> None:
    shares = np.linspace(1, 0, 20, dtype=np.float32)
    shown = answers.class_shares(Prediction(shares, 0, 1.0, 17), asked=19)
    assert len(shown) == answers.BARS_SHOWN
    assert {0, 17, 19} <= set(shown)


def test_candidate_labels_start_with_the_rows_own_and_the_class_asked_about() -> None:
    scores = np.array([-1.0, 0.5, 2.0, 0.1, -3.0], dtype=np.float32)
    assert [candidate.code for candidate in answers.candidates(scores, own=0, asked=3)] == [0, 3, 2, 1]


def test_the_turning_label_reverses_the_effect_the_most() -> None:
    assert answers.turning_label(np.array([-1.0, 0.5, 2.0], dtype=np.float32), own=0) == 2
    assert answers.turning_label(np.array([-1.0, -0.5], dtype=np.float32), own=0) is None
    assert answers.turning_label(np.array([0.0, 1.0], dtype=np.float32), own=0) is None


def test_two_answers_share_rows_that_helped_or_hurt_both() -> None:
    likeness = answers.liken(answered([3, 2, -1, -2]), answered([3, -2, 1, -4]), shown=2)
    assert likeness.helped == {0}
    assert likeness.hurt == {3}
    assert likeness.crossed == {1, 2}
    assert likeness.agreement == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("score", "percentile", "words"),
    [
        (1.0, 100.0, "top 0.1%"),
        (1.0, 99.6, "top 0.5%"),
        (1.0, 97.1, "top 3%"),
        (-1.0, 0.08, "bottom 0.1%"),
        (-1.0, 12.2, "bottom 13%"),
        (0.0, 50.0, "no effect"),
    ],
)
def test_a_standing_is_counted_from_the_nearer_end(score: float, percentile: float, words: str) -> None:
    assert wording.standing(score, percentile) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.87, "87%"), (0.999, "99.9%"), (0.99999, "over 99.9%"), (1.0, "100%"), (0.00004, "under 0.1%"), (0.0, "0.0%")],
)
def test_shares_are_never_rounded_to_certainty(value: float, words: str) -> None:
    assert wording.share(value) == words


def test_text_from_the_data_is_no_markup() -> None:
    assert wording.plain("<b> **x** :red[y] $z$\nnext") == r"\<b\> \*\*x\*\* \:red\[y\] \$z\$ next"
