"""The screens for leaked and memorized rows, on the digits demo: what is shown, decided, undone and linked."""

from __future__ import annotations

import pytest

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.leakage import deciding, report
from forwardinf_core.audits.leakage.choosing import Choosing, chosen_pairs, next_open
from forwardinf_core.audits.memorization import choosing, finding
from forwardinf_core.ui import state
from tests.pages.conftest import Screens, linked
from tests.pages.test_overview import written

LEAKAGE, MEMORIZATION = "leakage.py", "memorization.py"


@pytest.fixture(scope="module")
def scored(digits_audit: Audit) -> Audit:
    report.run(digits_audit)
    finding.run(digits_audit)
    return digits_audit


@pytest.fixture
def undecided(scored: Audit) -> Audit:
    while deciding.undo(scored, "tester"):
        pass
    return scored


def test_copies_are_shown_with_their_verdict_reasons_and_accuracy(screens: Screens, scored: Audit) -> None:
    app = screens(scored, LEAKAGE)
    assert not app.exception
    assert app.metric[0].value == "12"
    assert "same pixels" in written(app)
    assert app.button(key=state.side(state.LEAK_DECIDE, "drop-test")).label == "Drop from test"


def test_a_choice_is_kept_moves_on_and_can_be_undone(
    screens: Screens, undecided: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit = undecided
    app = screens(audit, LEAKAGE)
    app.button(key=state.side(state.LEAK_DECIDE, "drop-test")).click().run()
    assert not app.exception
    found = report.find(audit)
    assert found is not None
    pairs = chosen_pairs(audit, found, Choosing(), {})
    assert ("test", pairs[0].query.removeprefix("test:")) in deciding.current(audit)
    assert linked(app, "pair") == pairs[1].query
    assert app.metric[3].value != "–"
    app.button(key=state.LEAK_UNDO).click().run()
    assert not deciding.current(audit)
    app.button(key=state.LEAK_REDO).click().run()
    assert deciding.current(audit)
    app.button(key=state.LEAK_UNDO).click().run()


def test_a_link_opens_the_pair_the_filter_and_the_groups(screens: Screens, scored: Audit) -> None:
    app = screens(scored, LEAKAGE, verdict="none")
    assert not app.exception
    assert "the surest first" in written(app)
    groups = screens(scored, LEAKAGE, part="groups")
    assert not groups.exception
    assert "over both splits" in written(groups)


def test_without_a_run_the_screens_offer_to_start_one(
    screens: Screens, scored: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "finished", lambda _audit: None)
    monkeypatch.setattr(finding, "finished", lambda _audit: ())
    assert screens(scored, LEAKAGE).button(key=state.LEAK_START).label == "Look for copies"
    assert screens(scored, MEMORIZATION).button(key=state.MEM_START).label == "Score the rows"


def test_a_service_that_fails_is_said_calmly(screens: Screens, scored: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_audit: Audit) -> str:
        raise RuntimeError("wires")

    monkeypatch.setattr(report, "finished", broken)
    app = screens(scored, LEAKAGE)
    assert not app.exception
    assert "wires" not in written(app)
    assert app.error


def test_memorized_rows_are_ranked_and_called_an_estimate(screens: Screens, scored: Audit) -> None:
    app = screens(scored, MEMORIZATION)
    assert not app.exception
    assert "Estimate" in written(app)
    assert "An estimate" in written(app)
    filtered = screens(scored, MEMORIZATION, label="3")
    assert not filtered.exception
    assert "labelled **3**" in written(filtered)


def test_a_range_without_rows_says_so(screens: Screens, scored: Audit) -> None:
    app = screens(scored, MEMORIZATION, low="100", high="101")
    assert "No row is in this range" in written(app)


def test_dropping_the_training_row_keeps_the_test_row(undecided: Audit) -> None:
    found = report.find(undecided)
    assert found is not None
    pair = chosen_pairs(undecided, found, Choosing(), {})[0]
    deciding.decide(undecided, found, pair, "drop-train", "tester")
    decided = deciding.current(undecided)
    assert deciding.choice_of(undecided, pair, decided) == "drop-train"
    assert len(deciding.kept_test_rows(undecided, decided)) == len(undecided.test_ids)
    deciding.decide(undecided, found, pair, "keep", "tester")
    assert deciding.choice_of(undecided, pair, deciding.current(undecided)) == "keep"
    assert deciding.sheet(deciding.current(undecided)).startswith("split,id,action")
    deciding.undo(undecided, "tester")
    assert deciding.choice_of(undecided, pair, deciding.current(undecided)) == "drop-train"
    deciding.undo(undecided, "tester")
    assert not deciding.current(undecided)


def test_after_the_last_open_pair_the_same_one_stays(undecided: Audit) -> None:
    found = report.find(undecided)
    assert found is not None
    pairs = chosen_pairs(undecided, found, Choosing(), {})[:2]
    assert next_open(undecided, pairs, pairs[0].query, {}) == pairs[1].query
    assert next_open(undecided, pairs[:1], pairs[0].query, {}) == pairs[0].query


def test_the_nearest_rows_leave_out_the_row_itself(scored: Audit) -> None:
    space = choosing.neighbours_of(scored)
    assert space is not None
    near, alike = space.nearest(4, 6)
    assert 4 not in near
    assert (alike[:-1] >= alike[1:]).all()
