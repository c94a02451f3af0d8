"""The link of a screen stays true when a browser sends the one from before the last click."""

from __future__ import annotations

import pytest

from forwardinf_core.ui.address import SETTLING_S, Change, caught_up

OLD = {"query": "test:1"}
NEW = {"query": "test:1", "row": "7"}
LAST = Change("/attribution", OLD, NEW, at=100.0)


def test_just_after_a_change_the_link_from_before_it_is_read_as_the_changed_one() -> None:
    assert caught_up("/attribution", OLD, LAST, 100.1) == NEW


@pytest.mark.parametrize(
    ("page", "said", "now"),
    [
        ("/attribution", NEW, 100.1),  # the browser knows
        ("/attribution", {"query": "test:2"}, 100.1),  # another link: somebody went elsewhere
        ("/review", OLD, 100.1),
        ("/attribution", OLD, 100.0 + SETTLING_S),  # Back, later
    ],
)
def test_any_other_link_is_what_it_says(page: str, said: dict[str, str], now: float) -> None:
    assert caught_up(page, said, LAST, now) == said


def test_without_a_change_a_link_is_what_it_says() -> None:
    assert caught_up("/attribution", OLD, None, 0.0) == OLD
