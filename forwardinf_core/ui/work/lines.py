"""Jobs in words, as the panel and a waiting page show them. No Streamlit here: the web server answers these, too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from forwardinf_core.ui.wording import duration

if TYPE_CHECKING:
    from forwardinf_core.jobs.queue import JobStatus

ENDED_SHOWN = 8
TITLES = {
    "attribute": "Scoring the training rows",
    "prepare": "Preparing answers",
    "fit": "Training the built-in network",
    "demo": "Building a demo",
    "mislabels": "Looking for wrong labels",
    "review-effect": "Measuring the effect of the review",
    "leakage": "Looking for leaked test rows",
    "memorization": "Ranking rows by memorisation",
    "trace": "Tracing a completion",
    "trace-prepare": "Preparing text tracing",
    "fit-language": "Training the language model",
    "hypothesis": "Verifying the mirrored influence hypothesis",
    "lds": "Measuring fidelity by retraining",
    "removal": "Removing rows and retraining",
    "canaries": "Looking for planted rows",
    "controls": "Checking the controls",
}
PAGES = {
    "attribute": "attribution",
    "mislabels": "review",
    "review-effect": "review",
}  # where the result of a kind of job is seen
LOST_AFTER_S = 10.0  # without a sign of life, a look is taken whether the worker still is


@dataclass(frozen=True, slots=True)
class JobLine:
    """One job as it is shown. ``share`` is −1 where nothing is known; ``page`` and ``link`` lead to its result."""

    id: int
    title: str
    subject: str  # what it works on
    state: str
    share: float  # 0 to 1
    note: str  # how far it is, or how it ended
    trouble: str  # why it stopped, and what to do
    log: tuple[str, ...]
    is_active: bool
    can_cancel: bool
    can_retry: bool
    page: str
    link: dict[str, str]


def lines(project: Path) -> list[JobLine]:
    """Return a project's jobs: those at work, those that stopped or ended last. Sees to it that a worker lives."""
    from forwardinf_core.jobs import run

    found = run.list_jobs(project)
    active = [job for job in found if job.is_active]
    if any(job.state == "queued" or is_lost(job) for job in active):
        run.resume_pending()
    return [line_of(job) for job in [*active, *[job for job in found if not job.is_active][:ENDED_SHOWN]]]


def is_lost(job: JobStatus) -> bool:
    """Say whether a running job has given no sign of life for long."""
    return job.state == "running" and (job.heartbeat_age_s is None or job.heartbeat_age_s > LOST_AFTER_S)


def line_of(job: JobStatus) -> JobLine:
    """Return one job in words."""
    link = link_of(job)
    has_page = job.state == "done" and job.kind in PAGES and (job.kind != "attribute" or bool(link))
    return JobLine(
        id=job.id,
        title=TITLES.get(job.kind, job.kind.replace("-", " ").capitalize()),
        subject=subject_of(job),
        state=job.state,
        share=min(job.done / job.total, 1.0) if job.total else -1.0,
        note=note_of(job),
        trouble=f"{job.error} {job.hint}".strip(),
        log=job.log,
        is_active=job.is_active,
        can_cancel=job.state in ("queued", "running", "paused") and not job.cancel_requested,
        can_retry=job.state in ("failed", "paused", "cancelled"),
        page=PAGES[job.kind] if has_page else "",
        link=link if has_page else {},
    )


def note_of(job: JobStatus) -> str:
    """Say in a few words how far a job is, or how it ended."""
    if job.cancel_requested:
        return "Stopping …"
    if job.state == "queued":
        return "Waiting for its turn"
    if job.state == "running":
        left = f" · about {duration(job.seconds_left)} left" if job.seconds_left is not None else ""
        return f"{job.note or 'Starting'}{left}"
    took = f" in {duration(job.finished - job.started)}" if job.finished and job.started else ""
    return {"done": f"Done{took}", "paused": "Paused", "failed": "Failed", "cancelled": "Cancelled"}[job.state]


def subject_of(job: JobStatus) -> str:
    """Say what a job works on: "test:17 · tail"."""
    queries, method = job.options.get("queries"), job.options.get("method")
    if not isinstance(queries, list) or not isinstance(method, dict) or not queries:
        return ""
    first = str(queries[0]) if str(queries[0]).startswith("test:") else "a query of your own"
    return f"{first if len(queries) == 1 else f'{len(queries)} queries'} · {method.get('name', '')}"


def link_of(job: JobStatus) -> dict[str, str]:
    """Return what the link to a job's answer says, or nothing where its result is no single answer."""
    queries, method = job.options.get("queries"), job.options.get("method")
    if job.kind != "attribute" or not isinstance(queries, list) or len(queries) != 1 or not isinstance(method, dict):
        return {}
    target = job.options.get("target")
    return {"query": str(queries[0]), "method": str(method.get("name", ""))} | (
        {} if target is None else {"target": str(target)}
    )


def act(project: Path, job_id: int, action: str) -> None:
    """Cancel a job of this project, or go on with it. Raises JobError where it has none of this id."""
    from forwardinf_core.errors import JobError
    from forwardinf_core.jobs import run

    if action not in ("cancel", "retry"):
        raise JobError(f"A job can be cancelled or retried, not {action}.")
    if run.status(job_id).project != project.expanduser().resolve():
        raise JobError(f"This project has no job {job_id}.", hint="Reload the page.")
    (run.cancel if action == "cancel" else run.retry)(job_id)
