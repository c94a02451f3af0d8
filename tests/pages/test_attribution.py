"""The attribution screen: choosing a query, its answer, the open row, the link, and everything that can go wrong."""

from __future__ import annotations

import json

import pytest
from streamlit.testing.v1 import AppTest

from forwardinf_core.audits import costs
from forwardinf_core.errors import AuditError, StoreError
from forwardinf_core.jobs.forecast import Forecast
from forwardinf_core.ui import state
from forwardinf_core.ui.address import Address
from forwardinf_core.ui.attribution.drawn import early
from forwardinf_core.ui.attribution.question import Project
from forwardinf_core.ui.attribution.waiting import SETTLE_MS, Refining
from tests.pages.conftest import Screens, given, linked
from tests.pages.fake_services import HOSTILE, FakeAudit
from tests.pages.test_overview import marked_up, written

PAGE = "attribution.py"


def wrong_query(audit: FakeAudit) -> str:
    """Return a test row that the model gets wrong."""
    said = audit.predictions()
    position = int((said.prediction != said.label).argmax())
    return f"test:{audit.test_ids[position]}"


def test_without_a_query_the_screen_offers_the_test_rows(screens: Screens, audit: FakeAudit) -> None:
    app = screens(audit, PAGE)
    assert not app.exception
    assert "Choose a prediction" in written(app)
    assert app.selectbox(key=state.PICK_SHOW).value == "Wrong first"
    assert len(given(app, "gallery")) == 1
    assert not given(app, "board")


def test_a_link_with_a_query_shows_its_answer(screens: Screens, audit: FakeAudit) -> None:
    app = screens(audit, PAGE, query=wrong_query(audit))
    assert not app.exception
    text = written(app)
    assert "The model says" in text
    assert {"text": "wrong", "weight": "badge"} in given(app, "card")[0]["verdict"]
    assert "Helped" in text
    assert "Hurt" in text
    assert "An unchanged model scores exactly 0" in text


def test_the_row_in_the_link_is_open(screens: Screens, audit: FakeAudit) -> None:
    app = screens(audit, PAGE, query=wrong_query(audit), row="train-0007")
    assert "train\\-0007" in written(app)


def test_a_row_that_does_not_exist_is_said_calmly(screens: Screens, audit: FakeAudit) -> None:
    app = screens(audit, PAGE, query=wrong_query(audit), row="nowhere")
    assert not app.exception
    assert "training row that this project does not have" in written(app)


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ({"query": "test:nowhere"}, "Near ids"),
        ({"query": "upload:gone"}, "Near ids"),
        ({"query": "test:test-0000", "target": "99"}, "numbered 0 to 9"),
        ({"query": "test:test-0000", "target": "<script>"}, "numbered 0 to 9"),
    ],
)
def test_a_broken_link_is_a_calm_message(
    screens: Screens, audit: FakeAudit, link: dict[str, str], expected: str
) -> None:
    app = screens(audit, PAGE, **link)
    assert not app.exception
    assert expected in app.warning[0].value


def test_asking_about_the_label_changes_the_link_and_the_question(screens: Screens, audit: FakeAudit) -> None:
    query = wrong_query(audit)
    app = screens(audit, PAGE, query=query)
    app.pills(key=state.TARGET).set_value("label").run()
    assert linked(app, "target") == "label"
    said = audit.predict(query)
    sides = given(app, "board")[0]["sides"]
    assert isinstance(sides, list)
    assert sides[0]["subject"] == str(said.label)


def asked_about(audit: FakeAudit, query: str) -> str:
    """Return what names the quick question about a query's predicted class."""
    return f"{query}|{audit.predict(query).prediction}|head"


def test_the_refined_answer_is_offered_and_does_not_show_itself(screens: Screens, audit: FakeAudit) -> None:
    query = wrong_query(audit)
    app = screens(audit, PAGE, query=query)
    app.session_state[state.REFINING] = Refining(asked_about(audit, query), "")
    app.run()
    assert app.button(key=state.SHOW_REFINED).label == "Refined answer ready: show it"
    assert not linked(app, "method")
    app.button(key=state.SHOW_REFINED).click().run()
    assert linked(app, "method") == "tail"
    assert app.button(key=state.SHOW_QUICK).label == "Back to the quick answer"


def test_refining_waits_for_a_person_to_stay_and_then_says_how_far_it_is(screens: Screens) -> None:
    audit = FakeAudit(tail_polls=3)
    query = wrong_query(audit)
    app = screens(audit, PAGE, query=query)
    assert given(app, "watch")[0]["after_ms"] == SETTLE_MS
    app.session_state[state.REFINING] = Refining(asked_about(audit, query), "job-1")
    app.run()
    assert given(app, "watch")[0]["job"] == "job-1"
    assert "Refining" in str(given(app, "watch")[0]["words"])


def test_a_long_method_shows_progress_and_a_way_back(screens: Screens) -> None:
    audit = FakeAudit(tail_polls=50)
    query = wrong_query(audit)
    app = screens(audit, PAGE, query=query, method="tail")
    assert given(app, "watch")[0]["job"] == f"job-{query}-tail-{audit.predict(query).prediction}"
    assert not given(app, "board")
    app.button(key=state.STOP_REFINING).click().run()
    assert not linked(app, "method")


def test_a_long_method_that_will_not_fit_begins_only_when_a_person_says_so(
    screens: Screens, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit = FakeAudit(tail_polls=50)
    cost = Forecast(400.0, 7 * 10**8, 4 * 10**9, 10**9, 10**12)
    app = screens(audit, PAGE)
    monkeypatch.setattr(costs, "of_method", lambda _audit, _name: cost)
    monkeypatch.setattr(audit, "is_at_hand", lambda *_: False, raising=False)
    app = screens_again(app, query=wrong_query(audit), method="tail")
    assert "It will take about 7 min" in app.warning[0].value.replace("\\", "")
    assert not given(app, "watch")
    app.button(key=state.START_ANYWAY).click().run()
    assert given(app, "watch")
    assert "about 7 min" in written(app).replace("\\", "")


def screens_again(app: AppTest, **link: str) -> AppTest:
    """Draw a page with another link."""
    for name, value in link.items():
        app.query_params[name] = value
    return app.run()


def test_what_the_browser_fetches_early_is_what_the_server_draws(screens: Screens, audit: FakeAudit) -> None:
    query = wrong_query(audit)
    app = screens(audit, PAGE, query=query)
    project = Project(audit, "demo:digits")  # type: ignore[arg-type]
    fetched = json.loads(json.dumps(early(project, Address(query=query))))
    board = {name: value for name, value in given(app, "board")[0].items() if name != "turn"}
    spread = {name: given(app, "spread")[0][name] for name in fetched["spread"]}
    assert fetched == {"card": given(app, "card")[0], "board": board, "spread": spread}
    with pytest.raises(AuditError, match="does not answer at once"):
        early(project, Address(query=query, method="tail"))


def test_a_failing_service_leaves_the_query_on_screen(screens: Screens, audit: FakeAudit) -> None:
    query = wrong_query(audit)
    audit.fault = StoreError("The disk is full.", hint="Free some space.")
    app = screens(audit, PAGE, query=query)
    assert not app.exception
    assert any("Free some space" in warning.value for warning in app.warning)
    assert "The model says" in written(app)


def test_two_queries_stand_side_by_side_and_can_be_swapped(screens: Screens, audit: FakeAudit) -> None:
    app = screens(audit, PAGE, query="test:test-0000", compare="test:test-0001")
    assert not app.exception
    assert "Rank agreement" in written(app)
    app.button(key=state.SWAP).click().run()
    assert linked(app, "query") == "test:test-0001"
    app.button(key=state.STOP_COMPARING).click().run()
    assert not linked(app, "compare")


def test_an_upload_is_explained_and_a_broken_one_is_refused_calmly(screens: Screens, audit: FakeAudit) -> None:
    app = screens(audit, PAGE)
    app.session_state[state.PICK_SOURCE] = "Your image"
    app.run()
    app.file_uploader(key=state.PICK_UPLOAD).upload("note.png", b"not an image").run()
    assert "PNG, JPEG and WebP can" in app.warning[0].value
    app.file_uploader(key=state.PICK_UPLOAD).upload("digit.png", audit.shown("test:test-0003")).run()
    assert linked(app, "query") == "upload:u0"
    assert "This image has no label" in written(app)
    assert given(app, "card")[0]["notes"] == ["Of an animation, the first picture is used."]


def test_hostile_labels_reach_the_screen_as_text(screens: Screens) -> None:
    audit = FakeAudit(classes=(*HOSTILE, *"6789"))
    for position in range(12):
        app = screens(audit, PAGE, query=f"test:test-{position:04d}")
        assert not app.exception
        text = marked_up(app)  # components show text letter by letter
        assert "<script>" not in text
        assert "**bold**" not in text
        assert "](http" not in text


def test_no_fitting_row_is_an_empty_state(screens: Screens, audit: FakeAudit) -> None:
    app = screens(audit, PAGE)
    app.text_input(key=state.PICK_ID).set_value("no such id").run()
    assert "No test row fits" in written(app)
