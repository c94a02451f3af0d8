"""Histograms as the browser is given them: heights, words with room, and values to columns and back."""

from __future__ import annotations

import numpy as np
import pytest

from forwardinf_core.ui.components.spread import Place, apart, columns_in, heights
from forwardinf_core.ui.review import suspicion

EDGES = np.linspace(0.0, 1.0, 11)


def test_a_single_row_can_be_seen_beside_thousands() -> None:
    found = heights([0, 1, 10_000])
    assert found[0] == 0
    assert found[1] > 0.05
    assert found[2] == 1
    assert not heights([0, 0]).any()


def test_words_that_would_overlap_are_left_out() -> None:
    assert [word.text for word in apart([Place(0.1, "a"), Place(0.12, "b"), Place(0.3, "c")])] == ["a", "c"]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.2, 0.5, (2, 5)), (0.25, 0.45, (2, 5)), (-3.0, 7.0, (0, 10)), (0.31, 0.32, (3, 4)), (None, 0.5, None)],
)
def test_a_range_of_values_covers_the_columns_that_hold_it(
    low: float | None, high: float | None, expected: tuple[int, int] | None
) -> None:
    assert columns_in(EDGES, low, high) == expected


def test_the_columns_of_suspicion_count_every_row_and_no_more_wrong_ones_than_rows() -> None:
    score = np.random.default_rng(0).beta(1, 5, 3_000).astype(np.float32)
    edges = suspicion.edges_of(score)
    shown = suspicion.spread_of("run", edges, score, score)
    counted = sum(int(column.hint.split()[0].replace(",", "")) for column in shown.columns)
    assert counted == len(score)
    assert all(0 <= column.inner <= 1 for column in shown.columns)
    assert edges[0] == score.min()
    assert edges[-1] == score.max()
