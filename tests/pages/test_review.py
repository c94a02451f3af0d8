"""The review screen in process: before a search, with suspects, with decisions, with a store that fails."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from streamlit.testing.v1 import AppTest

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.decisions import current, history, record
from forwardinf_core.audits.mislabels import finding
from forwardinf_core.errors import StoreError
from forwardinf_core.store.database import project_database
from forwardinf_core.store.decisions import Decision
from forwardinf_core.store.tables import DecisionRow
from forwardinf_core.ui import state
from forwardinf_core.ui.review import panel
from tests.pages.conftest import Screens


@pytest.fixture
def audit(digits_audit: Audit) -> Iterator[Audit]:
    yield digits_audit
    with project_database(digits_audit.project.audit_dir).writing() as session:
        session.query(DecisionRow).delete()


@pytest.fixture
def searched(audit: Audit) -> Audit:
    finding.suspects_now(audit)
    return audit


def words(app: AppTest) -> str:
    """Return all text of a screen."""
    parts = [*app.title, *app.markdown, *app.caption, *app.warning, *app.error]
    return "\n".join(f"{getattr(one, 'title', '')} {one.value}" for one in parts).replace("\\", "")


def window(app: AppTest) -> dict[str, object]:
    return dict(app.session_state[state.REVIEW_WINDOW][1])


def sent(app: AppTest, *entries: dict[str, object], turn: int = 1) -> AppTest:
    """Let the deck send a log."""
    app.session_state[state.DECK] = {"log": {"tab": "tab", "turn": turn, "log": list(entries)}}
    return app.run()


def entry(number: int, row: str, action: str = "keep", **rest: object) -> dict[str, object]:
    return {"e": f"tab:{number}", "s": f"tab:{number}", "a": action, "r": row, "l": None, "c": ""} | rest


def test_before_a_search_the_screen_offers_one(screens: Screens, audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "find_suspects", lambda _audit: None)
    monkeypatch.setattr("forwardinf_core.store.runs.list_runs", lambda *_: [])
    started = []
    monkeypatch.setattr(finding, "start_suspects", started.append)
    app = screens(audit, "review.py")
    assert not app.exception
    assert "No search for wrong labels yet" in words(app)
    app.button(key=state.FIND_SUSPECTS).click().run()
    assert started == [audit]


def test_a_longer_search_is_offered_beside_the_deck(
    screens: Screens, searched: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    monkeypatch.setattr(finding, "start_suspects", lambda audit, options: started.append((audit, options)))
    app = screens(searched, "review.py")
    assert "2 networks" in words(app)
    app.button(key=state.FIND_MORE).click().run()
    assert not app.exception
    assert started == [(searched, finding.FindOptions(networks=2))]


def test_the_deck_is_handed_the_most_suspicious_rows_first(screens: Screens, searched: Audit) -> None:
    app = screens(searched, "review.py")
    assert not app.exception
    found = finding.find_suspects(searched)
    assert found is not None
    data = window(app)
    items = data["items"]
    assert isinstance(items, list)
    assert [item["id"] for item in items[:5]] == [found.ids[at] for at in found.ranking[:5]]
    assert items[0]["why"]
    assert items[0]["c"][0][0] == int(found.likely[found.ranking[0], 0])
    assert "1,312 training rows" in words(app)


def test_decisions_of_the_deck_are_kept_and_the_queue_stays_as_it_was(screens: Screens, searched: Audit) -> None:
    app = screens(searched, "review.py")
    before = window(app)
    rows = [item["id"] for item in before["items"]]  # type: ignore[attr-defined]
    sent(app, entry(1, rows[0]), entry(2, rows[1], "drop"))
    sent(app, entry(1, rows[0]), entry(2, rows[1], "drop"), entry(3, "", "undo", u="tab:2"), turn=2)
    assert not app.exception
    assert {row: one.action for (_, row), one in current(searched.project, "mislabels").items()} == {rows[0]: "keep"}
    assert len(history(searched.project, "mislabels")) == 3
    assert app.session_state[state.REVIEW_WINDOW][1] is not None
    assert window(app) == before
    heard = app.session_state[state.REVIEW_HEARD]
    assert (heard.tab, heard.turn, heard.fault) == ("tab", 2, "")


def test_a_store_that_fails_is_said_and_nothing_counts_as_saved(
    screens: Screens, searched: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = screens(searched, "review.py")
    row = window(app)["items"][0]["id"]  # type: ignore[index]

    def full(*_: object) -> None:
        raise StoreError("The disk is full.", hint="Make room.")

    with monkeypatch.context() as patch:
        patch.setattr(panel, "receive", full)
        sent(app, entry(1, row))
    assert app.session_state[state.REVIEW_HEARD].fault == "The disk is full. Make room."
    sent(app, entry(1, row), turn=2)
    assert app.session_state[state.REVIEW_HEARD].fault == ""
    assert len(history(searched.project, "mislabels")) == 1


def test_a_link_opens_its_filter_and_its_row(screens: Screens, searched: Audit) -> None:
    found = finding.find_suspects(searched)
    assert found is not None
    dropped = found.ids[int(found.ranking[3])]
    record(searched.project, [Decision("mislabels", "train", dropped, "drop", reviewer="Ann")])
    app = screens(searched, "review.py", show="drop")
    assert window(app)["total"] == 0  # Ann's, not this person's
    app.session_state[state.REVIEWER_SAID] = "Ann"
    app.run()
    assert [item["id"] for item in window(app)["items"]] == [dropped]  # type: ignore[attr-defined]
    plain = found.ids[int(found.ranking[-1])]
    linked = screens(searched, "review.py", row=plain)
    assert window(linked)["items"][0]["id"] == plain  # type: ignore[index]


def test_a_link_that_names_no_class_is_one_sentence(screens: Screens, searched: Audit) -> None:
    app = screens(searched, "review.py", label="99")
    assert not app.exception
    assert "class ‘99’, which this project does not have" in words(app)


def test_blind_review_hides_what_others_said(screens: Screens, searched: Audit) -> None:
    found = finding.find_suspects(searched)
    assert found is not None
    record(searched.project, [Decision("mislabels", "train", found.ids[int(found.ranking[0])], "drop", reviewer="Zoe")])
    app = screens(searched, "review.py")
    assert window(app)["items"][0]["o"] == [["Zoe", "drop", None]]  # type: ignore[index]
    app.toggle(key=state.BLIND).set_value(True).run()
    assert window(app)["items"][0]["o"] == []  # type: ignore[index]


def test_the_next_piece_of_the_queue_is_handed_over_where_the_deck_asks(screens: Screens, searched: Audit) -> None:
    app = screens(searched, "review.py", rows="all")
    assert window(app)["total"] == 1312
    app.session_state[state.REVIEW_PLACE] = 730
    app.run()
    data = window(app)
    assert data["start"] == 700
    assert len(data["items"]) == 100  # type: ignore[arg-type]


def test_effect_export_agreement_and_log_show_what_there_is(screens: Screens, searched: Audit) -> None:
    app = screens(searched, "review.py")
    rows = [item["id"] for item in window(app)["items"]]  # type: ignore[attr-defined]
    assert "Nothing is relabelled or dropped yet" in words(app)
    made = [Decision("mislabels", "train", row, "drop", reviewer="Zoe") for row in rows[:12]]
    record(searched.project, [*made, Decision("mislabels", "train", rows[0], "keep", reviewer="Ann")])
    app.run()
    app.button(key=state.EFFECT_START).click().run()
    assert not app.exception
    assert re.search(r"Accuracy on 497 labelled test rows", words(app))
    app.session_state[state.REVIEW_MORE] = "Export"
    app.run()
    assert "11 dropped" in words(app)
    assert "1 row left alone: reviewers disagree" in words(app)
    app.session_state[state.REVIEW_MORE] = "Agreement"
    app.run()
    assert "Cohen's kappa" in app.dataframe[0].value.columns
    app.session_state[state.REVIEW_MORE] = "Audit log"
    app.run()
    assert len(app.dataframe[0].value) == 13
