"""The text tracing screen on a small trained model: empty, asked, compared, filtered, refused, decided."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from forwardinf_core.audits import decisions
from forwardinf_core.audits.tracing.audit import TracingAudit
from forwardinf_core.projects.language import open_language_project
from forwardinf_core.ui import opening
from tests.pages.conftest import PAGES, SHELL, given, linked
from tests.unit.language_cases import write_project

PROMPT = "Paris is the capital of"

Show = Callable[..., AppTest]


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> TracingAudit:
    project = open_language_project(write_project(tmp_path_factory.mktemp("traced")))
    audit = TracingAudit(project, project.load_model())
    from forwardinf_core.audits.tracing.methods import DEFAULT, trace_method

    audit.place.prepare(trace_method(DEFAULT))
    return audit


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, traced: TracingAudit) -> Iterator[Show]:
    monkeypatch.setenv("FORWARDINF_HOME", str(tmp_path))

    def shown(**link: str) -> AppTest:
        opened = opening.Opening("demo:facts", lambda _ref, _report: traced)
        opened.start()
        opened.wait(5)
        monkeypatch.setattr(opening, "_current", opened)
        app = AppTest.from_file(str(SHELL), default_timeout=60)
        app.run()
        app.switch_page(str(PAGES / "tracing.py"))
        for name, value in link.items():
            app.query_params[name] = value
        return app.run()

    st.cache_resource.clear()
    yield shown
    st.cache_resource.clear()


def written(app: AppTest) -> str:
    parts = [*app.markdown, *app.caption, *app.title, *app.warning, *app.error]
    return "\n".join(str(part.value) for part in parts)


def test_without_a_prompt_the_screen_says_what_to_do(show: Show) -> None:
    app = show()
    assert not app.exception
    assert "Nothing asked yet" in written(app)


def test_a_prompt_is_completed_and_its_texts_are_listed_with_every_option(show: Show) -> None:
    app = show(prompt=PROMPT)
    assert not app.exception
    text = written(app)
    assert "The model completes **France**" in text
    assert "Moved the model towards these words" in text
    assert "How it was scored" in text
    assert "Paris is the capital of France." in [str(code.value) for code in app.code]


def test_a_typed_prompt_goes_into_the_link(show: Show) -> None:
    app = show()
    app.text_input(key="trace-prompt").set_value("The capital of Italy is")
    app.button[0].click()
    app.run()
    assert not app.exception
    assert linked(app, "prompt") == "The capital of Italy is"


def test_two_completions_stand_side_by_side(show: Show) -> None:
    app = show(prompt=PROMPT, other="Italy")
    assert not app.exception
    assert "… Italy" in written(app).replace("\\", "")
    assert "Texts that helped it most" in written(app)


def test_what_cannot_be_asked_is_said_calmly(show: Show) -> None:
    app = show(prompt="word " * 300)
    assert not app.exception
    assert "Leave out its beginning" in app.warning[0].value


@pytest.mark.parametrize("ranking", ["hurt", "bm25", "embedding", "overlap", "fused", "nonsense"])
def test_every_ranking_in_a_link_draws(show: Show, ranking: str) -> None:
    app = show(prompt=PROMPT, ranking=ranking)
    assert not app.exception


def test_a_filter_in_the_link_keeps_its_texts(show: Show) -> None:
    app = show(prompt=PROMPT, column="source", value="b")
    assert not app.exception
    assert "3 texts with source b" in written(app)


def test_a_verdict_is_recorded_with_the_score_seen(show: Show, traced: TracingAudit) -> None:
    app = show(prompt=PROMPT, text="t0")
    app.button(key="trace-verdict-drop").click().run()
    assert not app.exception
    found = decisions.current(traced.project, "tracing")[("train", "t0")]
    assert found.action == "drop"
    assert found.score is not None


def test_a_classification_page_in_the_link_says_that_it_is_for_other_tasks(show: Show) -> None:
    app = show()
    app.switch_page(str(PAGES / "attribution.py")).run()
    assert "is not for this project" in written(app)


def test_memorized_texts_are_ranked_marked_and_called_an_estimate(show: Show, traced: TracingAudit) -> None:
    from forwardinf_core.audits.tracing import memorization

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memorization, "FEWEST_TEXTS", 2)
        memorization.run(traced)
    app = show()
    app.switch_page(str(PAGES / "memorization.py")).run()
    assert not app.exception
    assert "Estimate" in written(app)
    assert "6 texts, the most memorized first" in written(app)
    (rows,) = [part["rows"] for part in given(app, "passages")]
    assert any(run["strength"] for run in rows[0]["runs"])  # type: ignore[index]


def test_before_texts_were_scored_the_screen_offers_it(show: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    from forwardinf_core.audits.tracing import memorization

    monkeypatch.setattr(memorization, "finished", lambda _audit: None)
    app = show()
    app.switch_page(str(PAGES / "memorization.py")).run()
    assert not app.exception
    assert app.button(key="mem-start").label == "Score the texts"


def test_bytes_of_one_character_are_one_tile(show: Show) -> None:
    from forwardinf_core.models.language_text import Token
    from forwardinf_core.ui.tracing.prompt_box import characters_of

    tokens = [Token(text, 0.5, True) for text in ("", " P", "🗼", "", "", " ", "x", "")]
    assert characters_of(tokens) == [[1], [2, 3, 4], [6, 7]]


def test_dropped_texts_can_be_taken_home(show: Show, traced: TracingAudit) -> None:
    from forwardinf_core.store.decisions import Decision

    decisions.record(traced.project, [Decision("tracing", "train", "t4", "drop", reviewer="tester")])
    app = show(prompt=PROMPT)
    assert "The corpus as you decided" in written(app)
    app.button(key="trace-export").click().run()
    assert not app.exception
    assert "train-clean.parquet" in app.success[0].value.replace("\\", "")
    table = pd.read_parquet(traced.folder / "exports" / "train-clean.parquet")
    assert "t4" not in set(table["id"])


def test_a_trace_that_will_not_fit_waits_for_a_person_to_say_so(
    show: Show, traced: TracingAudit, monkeypatch: pytest.MonkeyPatch
) -> None:
    from forwardinf_core.audits.tracing import costs
    from forwardinf_core.jobs import run as jobs
    from forwardinf_core.jobs.forecast import Forecast

    monkeypatch.setattr(jobs, "ensure_worker", lambda: False)
    costs.dry_run_of(traced).measure()
    small = Forecast(400.0, 7 * 10**8, 4 * 10**9, 10**9, 10**12)
    monkeypatch.setattr(costs, "of_question", lambda *_: small)
    app = show(prompt=PROMPT, method="mlps-ekfac")  # not prepared
    assert not app.exception
    assert "It will take about 7 min" in written(app)
    assert "It will not fit" in app.warning[0].proto.title
    assert jobs.list_jobs(traced.folder) == []
    next(one for one in app.button if one.label == "Start it all the same").click()
    app.run()
    assert [job.kind for job in jobs.list_jobs(traced.folder)] == ["trace"]
    assert "about 7 min" in written(app)


def test_ranking_texts_by_memorization_says_what_it_costs(
    show: Show, traced: TracingAudit, monkeypatch: pytest.MonkeyPatch
) -> None:
    from forwardinf_core.audits.tracing import costs, memorization

    monkeypatch.setattr(memorization, "finished", lambda _audit: None)
    costs.dry_run_of(traced).measure()
    app = show()
    app.switch_page(str(PAGES / "memorization.py"))
    app.run()
    assert not app.exception
    assert "of memory" in written(app)
