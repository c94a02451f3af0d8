"""The jobs panel: silent with nothing to do; says how far work is, why it stopped, and the way on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from forwardinf_core.jobs import run
from forwardinf_core.jobs.queue import JobStatus
from forwardinf_core.ui import work
from tests.pages.conftest import Screens
from tests.pages.fake_services import FakeAudit

JOB = JobStatus(
    id=7, kind="attribute", version=1, project=Path("/nowhere/digits"), state="running", done=3.0, total=10.0,
    note="Scoring the training rows", rate=1.0, seconds_left=70.0,
    options={"queries": ["test:12"], "method": {"name": "tail"}, "target": 4}, fingerprints={}, log=("one line",),
    error="", hint="", result=None, peak_bytes=0, threads=2, attempt=1, halvings=0, crashes=0, crashed_at=0.0,
    cancel_requested=False, worker_pid=1, heartbeat_age_s=0.1, created=0.0, started=0.0, finished=None,
)  # fmt: skip


def texts(app: object) -> str:
    """Return all words of a screen's sidebar."""
    elements = [*app.sidebar.markdown, *app.sidebar.caption]  # type: ignore[attr-defined]
    return " ".join(element.value for element in elements)


def test_with_no_jobs_the_panel_says_what_it_is_for(screens: Screens) -> None:
    assert "Nothing has run yet" in texts(screens(FakeAudit()))


def test_running_work_shows_and_can_be_cancelled(screens: Screens, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(run, "list_jobs", lambda _project: [JOB])
    monkeypatch.setattr(run, "cancel", asked.append)
    app = screens(FakeAudit())
    assert work.KINDS["attribute"] in texts(app)
    app.button(key="cancel-job-7").click().run()
    assert asked == [7]


def test_stopped_work_says_why_and_can_go_on(screens: Screens, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    stopped = replace(JOB, state="paused", error="The disk is full.", hint="Make <b>room</b>.")
    monkeypatch.setattr(run, "list_jobs", lambda _project: [stopped])
    monkeypatch.setattr(run, "retry", asked.append)
    app = screens(FakeAudit())
    assert "The disk is full" in texts(app)
    assert "<b>" not in texts(app)
    app.button(key="retry-job-7").click().run()
    assert asked == [7]


def test_a_finished_answer_is_one_click_away() -> None:
    assert work.link_of(JOB) == {"query": "test:12", "method": "tail", "target": "4"}
    assert work.link_of(replace(JOB, kind="fit")) == {}
    assert work.link_of(replace(JOB, options={"queries": ["a", "b"], "method": {"name": "x"}})) == {}


def test_the_label_says_how_many_and_how_far() -> None:
    assert work.summary([]) == "Work"
    assert work.summary([JOB]) == "1 job · 30%"
