"""The leakage and memorization screens on texts: words side by side, nothing of a text read as markup."""

from __future__ import annotations

import pytest

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.leakage import report
from forwardinf_core.audits.memorization import finding
from tests.pages.conftest import Screens, given
from tests.pages.test_overview import written
from tests.unit.text_cases import PLANTED_TEXT, QUERY, WRONG_COPY


@pytest.fixture(scope="module")
def scored(text_audit: Audit) -> Audit:
    report.run(text_audit)
    finding.run(text_audit)
    return text_audit


def test_two_texts_stand_side_by_side_with_their_verdict_and_reasons(screens: Screens, scored: Audit) -> None:
    app = screens(scored, "leakage.py", pair=f"test:{QUERY}")
    assert not app.exception
    (pair,) = given(app, "texts_pair")
    assert [side["runs"] for side in pair["sides"]] == [[[PLANTED_TEXT, False]]] * 2  # type: ignore[attr-defined]
    assert "words in common" in str(pair["note"])
    assert "say the same" in written(app)
    (tiles,) = given(app, "gallery")
    assert all(tile["text"] for tile in tiles["tiles"])  # type: ignore[attr-defined]


def test_a_pair_that_is_no_copy_has_its_differing_words_marked(screens: Screens, scored: Audit) -> None:
    app = screens(scored, "leakage.py", verdict="none")
    assert not app.exception
    (pair,) = given(app, "texts_pair")
    assert any(is_own for side in pair["sides"] for _, is_own in side["runs"])  # type: ignore[attr-defined]


def test_groups_of_texts_are_shown_by_their_beginnings(screens: Screens, scored: Audit) -> None:
    app = screens(scored, "leakage.py", part="groups")
    assert not app.exception
    assert all(tile["text"] for gallery in given(app, "gallery") for tile in gallery["tiles"])  # type: ignore[attr-defined]
    assert "mirrored" not in written(app)


def test_memorized_texts_are_shown_whole_with_their_nearest(screens: Screens, scored: Audit) -> None:
    app = screens(scored, "memorization.py", row=WRONG_COPY)
    assert not app.exception
    (passage,) = given(app, "passage")
    assert passage["read"] == PLANTED_TEXT
    galleries = given(app, "gallery")
    assert len(galleries) == 2
    assert all(tile["text"] for gallery in galleries for tile in gallery["tiles"])  # type: ignore[attr-defined]
    assert "Estimate" in written(app)
