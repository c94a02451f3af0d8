"""The overview: what the project is, where the model errs, and what it says when it cannot say that."""

from __future__ import annotations

import threading

import pytest
import streamlit as st
from streamlit.navigation.page import StreamlitPage
from streamlit.testing.v1 import AppTest

from forwardinf_core.errors import DataError
from forwardinf_core.ui import messages, navigation, opening
from tests.pages.conftest import SHELL, Screens, given, linked, texts_of
from tests.pages.fake_services import HOSTILE, N_TEST, N_TRAIN, FakeAudit


def marked_up(app: AppTest) -> str:
    """Return all text of a screen that is read as Markdown."""
    parts = [*app.markdown, *app.caption, *app.title, *app.subheader, *app.warning, *app.error]
    return "\n".join(str(part.value) for part in parts)


def written(app: AppTest) -> str:
    """Return all text of a screen."""
    components = [each for name in ("card", "board") for each in given(app, name)]
    return "\n".join([marked_up(app), *map(texts_of, components)])


def test_the_overview_names_sizes_accuracy_and_what_was_planted(screens: Screens, audit: FakeAudit) -> None:
    app = screens(audit)
    assert not app.exception
    values = {metric.label: metric.value for metric in app.metric}
    assert values["Training rows"] == f"{N_TRAIN:,}"
    assert values["Test rows"] == f"{N_TEST:,}"
    assert values["Classes"] == "10"
    assert values["Test accuracy"].endswith("%")
    assert "carry a wrong label" in written(app)


def test_the_next_step_opens_the_most_confident_mistake(screens: Screens, audit: FakeAudit) -> None:
    app = screens(audit)
    app.button(key="next-step").click().run()
    assert linked(app, "query").startswith("test:")
    assert "Helped" in written(app)


def test_a_project_without_mistakes_says_so(screens: Screens, audit: FakeAudit) -> None:
    audit.make_right()
    app = screens(audit)
    assert "gets every labelled test row right" in written(app)


def test_a_failing_service_becomes_a_calm_message(screens: Screens, audit: FakeAudit) -> None:
    audit.fault = DataError("The test rows cannot be read.", hint="Check the file test.parquet.")
    app = screens(audit)
    assert not app.exception
    assert "test\\.parquet" in app.warning[0].value


def test_an_unknown_fault_is_said_in_general_words_and_logged(
    screens: Screens, audit: FakeAudit, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[Exception] = []
    monkeypatch.setattr(messages.LOG, "error", lambda _words, exc_info: logged.append(exc_info))
    audit.fault = RuntimeError("secret detail")
    app = screens(audit)
    assert not app.exception
    assert app.error[0].value == messages.GENERIC_HINT
    assert "secret detail" not in written(app)
    assert logged == [audit.fault]


def test_hostile_class_names_are_shown_letter_by_letter(screens: Screens) -> None:
    app = screens(FakeAudit(classes=(*HOSTILE, *"6789")))
    assert not app.exception
    assert "<script>" not in marked_up(app)


def test_the_first_start_shows_the_preparation(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = opening.Opening("demo:digits", lambda _ref, _report: FakeAudit())
    opened.report(0.4, "Training the model")
    monkeypatch.setattr(opening, "_current", opened)
    app = AppTest.from_file(str(SHELL), default_timeout=20).run()
    assert app.title[0].value == "Preparing the digits demo"
    (progress,) = given(app, "watch")
    assert (progress["address"], progress["job"]) == (opening.ADDRESS, opened.name)


def test_while_a_project_opens_the_pages_of_its_task_alone_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[tuple[str, str]] = []

    def noted(page: object, **given: str) -> StreamlitPage:
        listed.append((given["title"], given["visibility"]))
        return made(page, **given)  # type: ignore[arg-type]

    made = st.Page
    monkeypatch.setattr(st, "Page", noted)
    going = threading.Event()

    def slow(_ref: str, _report: opening.Report) -> FakeAudit:
        going.wait(20)
        return FakeAudit()

    opened = opening.Opening("demo:facts", slow, lambda _ref: "causal-lm")
    opened.start()
    monkeypatch.setattr(opening, "_current", opened)
    try:
        while not opened.task:
            opened.wait(0.01)
        AppTest.from_file(str(SHELL), default_timeout=20).run()
    finally:
        going.set()
    assert [title for title, visibility in listed if visibility == "visible"] == ["Memorization", "Text tracing"]


def test_a_project_that_cannot_be_opened_says_why_and_offers_another_try(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_ref: str, _report: opening.Report) -> FakeAudit:
        raise DataError("project.yaml has no key ‘train’.", hint="Add it.")

    opened = opening.Opening("/some/folder", refuse)
    opened.start()
    opened.wait(5)
    monkeypatch.setattr(opening, "_current", opened)
    app = AppTest.from_file(str(SHELL), default_timeout=20).run()
    assert "Add it" in app.warning[0].value
    assert app.button(key="try-again").label == "Try again"


def test_a_page_for_other_tasks_is_not_listed_and_its_link_gets_an_answer(
    screens: Screens, audit: FakeAudit, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracing = navigation.Entry("Trace", "attribution", "Text tracing", ":material/hub:", navigation.LANGUAGE)
    monkeypatch.setattr(navigation, "ENTRIES", (navigation.ENTRIES[0], tracing))
    app = screens(audit, "attribution.py", query="test:test-0000")
    assert not app.exception
    assert "Text tracing is not for this project" in written(app)


def test_a_project_of_another_task_starts_on_that_tasks_first_page(
    screens: Screens, audit: FakeAudit, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = navigation.Entry("Explore", "overview", "Overview", ":material/dashboard:", navigation.LANGUAGE)
    monkeypatch.setattr(navigation, "ENTRIES", (first, navigation.ENTRIES[1]))
    app = screens(audit)
    assert not app.exception
    assert app.title[0].value == "Attribution"
