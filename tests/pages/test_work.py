"""The jobs panel: what it is given, what it says of a job, and what the web server lets it do."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path

import pytest

from forwardinf_core.commands.jobs import JOB_MODULES
from forwardinf_core.errors import JobError, StoreError
from forwardinf_core.jobs import registry, run
from forwardinf_core.jobs.queue import JobStatus
from forwardinf_core.store.binding import Option
from forwardinf_core.ui import navigation, state
from forwardinf_core.ui.work import lines
from forwardinf_core.verification import fidelity, lights
from tests.pages.conftest import Screens, given, linked
from tests.pages.fake_services import FakeAudit

FOLDER = Path("/nowhere/digits")
JOB = JobStatus(
    id=7, kind="attribute", version=1, project=FOLDER, state="running", done=3.0, total=10.0,
    note="Scoring the training rows", rate=1.0, seconds_left=70.0,
    options={"queries": ["test:12"], "method": {"name": "tail"}, "target": 4}, fingerprints={}, log=("one line",),
    error="", hint="", result=None, peak_bytes=0, threads=2, attempt=1, halvings=0, crashes=0, crashed_at=0.0,
    cancel_requested=False, worker_pid=1, heartbeat_age_s=0.1, created=0.0, started=0.0, finished=None,
)  # fmt: skip


def test_every_page_has_the_panel_and_it_is_given_the_projects_jobs(
    screens: Screens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "list_jobs", lambda _project: [JOB])
    for page in ("", "attribution.py"):
        app = screens(FakeAudit(), page)
        (panel,) = given(app, "jobs")
        assert [job["id"] for job in panel["jobs"]] == [7]  # type: ignore[attr-defined]
        assert str(panel["address"]).startswith("/work/")


def test_a_running_job_says_how_far_it_is_and_can_be_cancelled() -> None:
    line = lines.line_of(JOB)
    assert (line.share, line.note) == (0.3, "Scoring the training rows · about 70.0 s left")
    assert (line.can_cancel, line.can_retry, line.page) == (True, False, "")
    assert line.subject == "test:12 · tail"
    assert not lines.line_of(replace(JOB, cancel_requested=True)).can_cancel


def test_stopped_work_says_why_and_can_go_on() -> None:
    line = lines.line_of(replace(JOB, state="paused", error="The disk is full.", hint="Make room."))
    assert line.trouble == "The disk is full. Make room."
    assert line.can_retry


def test_a_finished_answer_is_one_click_away() -> None:
    done = replace(JOB, state="done", finished=4.0)
    line = lines.line_of(done)
    assert (line.page, line.link) == ("attribution", {"query": "test:12", "method": "tail", "target": "4"})
    assert line.note == "Done"
    assert lines.line_of(replace(done, options={"queries": ["a", "b"], "method": {"name": "x"}})).page == ""


@pytest.mark.parametrize(
    ("kind", "options", "page", "link"),
    [
        ("leakage", {}, "leakage", {}),
        ("memorization", {}, "memorization", {}),
        ("memorization-reference", {"networks": 16}, "memorization", {}),
        ("mislabels", {"folds": 5}, "review", {}),
        ("review-effect", {}, "review", {}),
        ("lds", {"method": "tail"}, "verify", {"part": "lds"}),
        ("hypothesis", {"part": "network"}, "verify", {"part": "hypothesis", "kind": "network"}),
        ("canaries", {"scope": "model"}, "verify", {"part": "canaries", "scope": "model"}),
        (
            "removal",
            {"query": "test:1", "target": 2, "k": 9, "scope": "model", "method": {"name": "tail"}},
            "verify",
            {"part": "removal", "query": "test:1", "target": "2", "k": "9", "scope": "model", "method": "tail"},
        ),
        (
            "trace",
            {"question": {"prompts": ["a"], "completions": ["b"], "span": [1, 2]}, "method": {"name": "tail"}},
            "tracing",
            {"prompt": "a", "completion": "b", "span": "1,2", "method": "tail"},
        ),
        ("trace", {"question": {"prompts": ["a", "b"]}}, "", {}),
        ("fit", {"epochs": 3}, "", {}),
        ("prepare", {"scopes": ["head"]}, "", {}),
    ],
)
def test_finished_work_of_every_kind_leads_to_its_result(
    kind: str, options: dict[str, Option], page: str, link: dict[str, str]
) -> None:
    line = lines.line_of(replace(JOB, kind=kind, state="done", options=options))
    assert (line.page, line.link) == (page, link)


def test_every_kind_of_work_has_a_title_of_its_own_and_a_page_that_exists() -> None:
    for module in JOB_MODULES:
        importlib.import_module(module)
    assert set(registry._kinds) - set(lines.TITLES) <= {"measure"} | {name for name in registry._kinds if "toy" in name}
    assert set(lines.PAGES.values()) <= {entry.name for entry in navigation.ENTRIES}


def test_a_job_in_its_place_shows_progress_or_why_it_stopped_with_retry(
    screens: Screens, audit: FakeAudit, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(run, "retry", asked.append)
    monkeypatch.setattr(lights, "control_lights", lambda _audit: [])
    monkeypatch.setattr(fidelity, "latest_lds", lambda _audit: None)
    monkeypatch.setattr(fidelity, "lds_options", lambda _audit: fidelity.LdsOptions("head"))
    for state_of_job, is_watched in (("running", True), ("queued", True), ("failed", False), ("cancelled", False)):
        job = replace(JOB, kind="lds", state=state_of_job, error="It broke.", hint="Mend it.")
        monkeypatch.setattr(run, "find", lambda *_, job=job: job)
        app = screens(audit, "verify.py", part="lds")
        assert [data["job"] for data in given(app, "watch")] == (["7"] if is_watched else [])
        assert ("Mend it" in str([warning.value for warning in app.warning])) is not is_watched
    app.button(key=state.of_run(state.RETRY_WORK, "7")).click().run()
    assert asked == [7]


def test_an_answer_that_failed_says_why_and_is_not_begun_again_by_drawing_it(screens: Screens) -> None:
    audit = FakeAudit(tail_polls=50)
    audit.work_fault = StoreError("The disk has gone.", hint="Bring it back.")
    app = screens(audit, "attribution.py", query="test:test-0003", method="tail")
    app.run()
    assert not app.exception
    assert "Bring it back" in str([warning.value for warning in app.warning])
    assert not given(app, "watch")
    job = f"job-test:test-0003-tail-{audit.predict('test:test-0003').prediction}"
    assert app.button(key=state.of_run(state.RETRY_WORK, job))


def test_opening_a_result_goes_to_its_answer_once(screens: Screens, monkeypatch: pytest.MonkeyPatch) -> None:
    audit = FakeAudit()
    query = f"test:{audit.test_ids[3]}"
    done = replace(JOB, state="done", options={"queries": [query], "method": {"name": "tail"}, "target": 4})
    monkeypatch.setattr(run, "list_jobs", lambda _project: [done])
    app = screens(audit)
    line = lines.line_of(done)
    app.session_state[state.JOBS] = {"open": {"turn": 1, "page": line.page, "link": line.link}}
    app.run()
    assert (linked(app, "query"), linked(app, "target"), linked(app, "method")) == (query, "4", "tail")
    assert given(app, "card")


def test_a_job_whose_worker_died_has_a_worker_started(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(run, "resume_pending", lambda: asked.append(True))
    for job, wanted in ((JOB, False), (replace(JOB, heartbeat_age_s=60.0), True), (replace(JOB, state="queued"), True)):
        monkeypatch.setattr(run, "list_jobs", lambda _project, job=job: [job])
        asked.clear()
        lines.lines(FOLDER)
        assert bool(asked) is wanted


def test_only_this_projects_jobs_can_be_cancelled_or_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []
    monkeypatch.setattr(run, "status", lambda _job: JOB)
    monkeypatch.setattr(run, "cancel", lambda job: asked.append(("cancel", job)))
    monkeypatch.setattr(run, "retry", lambda job: asked.append(("retry", job)))
    lines.act(FOLDER, 7, "cancel")
    lines.act(FOLDER, 7, "retry")
    assert asked == [("cancel", 7), ("retry", 7)]
    for folder, action in ((Path("/elsewhere"), "cancel"), (FOLDER, "delete")):
        with pytest.raises(JobError):
            lines.act(folder, 7, action)
