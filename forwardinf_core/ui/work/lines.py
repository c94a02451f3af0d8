"""Jobs in words, as the panel and a waiting page show them. No Streamlit here: the web server answers these, too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from forwardinf_core.ui.wording import counted, duration

if TYPE_CHECKING:
    from forwardinf_core.jobs.queue import JobStatus
    from forwardinf_core.store.binding import Option

ENDED_SHOWN = 8
TITLES = {
    "attribute": "Scoring the training rows",
    "prepare": "Preparing answers",
    "fit": "Training the built-in network",
    "demo": "Building a demo",
    "mislabels": "Looking for wrong labels",
    "review-effect": "Measuring the effect of the review",
    "leakage": "Looking for leaked test rows",
    "memorization": "Ranking rows by memorization",
    "memorization-reference": "Retraining on random halves",
    "memorization-texts": "Ranking texts by memorization",
    "trace": "Tracing a completion",
    "trace-prepare": "Preparing text tracing",
    "generate": "Painting a picture",
    "generation": "Tracing a picture",
    "fit-language": "Training the language model",
    "hypothesis": "Verifying the mirrored influence hypothesis",
    "lds": "Measuring fidelity by retraining",
    "removal": "Removing rows and retraining",
    "picture-removal": "Leaving images out and retraining",
    "canaries": "Looking for planted rows",
    "controls": "Checking the controls",
}
PAGES = {
    "attribute": "attribution",
    "mislabels": "review",
    "review-effect": "review",
    "leakage": "leakage",
    "memorization": "memorization",
    "memorization-reference": "memorization",
    "memorization-texts": "memorization",
    "trace": "tracing",
    "generate": "generation",
    "generation": "generation",
    "picture-removal": "generation",
    "removal": "verify",
    "canaries": "verify",
    "controls": "verify",
    "hypothesis": "verify",
    "lds": "verify",
}  # where the result of a kind of job is seen
ONE_ANSWER = {
    "attribute",
    "trace",
    "generate",
    "generation",
    "picture-removal",
}  # kinds whose result is seen only where it is the answer to one question
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
    has_page = job.state == "done" and job.kind in PAGES and (job.kind not in ONE_ANSWER or bool(link))
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
        left = f" · about {duration(max(job.seconds_left, 1))} left" if job.seconds_left is not None else ""
        return f"{job.note or 'Starting'}{left}"
    took = f" in {duration(job.finished - job.started)}" if job.finished and job.started else ""
    return {"done": f"Done{took}", "paused": "Paused", "failed": "Failed", "cancelled": "Cancelled"}[job.state]


def subject_of(job: JobStatus) -> str:
    """Say what a job works on: "test:17 · tail"."""
    if job.kind == "generate":
        return _subject_of_painting(job.options)
    queries, said = job.options.get("queries"), _record(job.options.get("method"))
    queries = [job.options["query"]] if "query" in job.options else queries
    if not isinstance(queries, list) or not said or not queries:
        return ""
    if job.kind == "generation":
        return f"{counted(len(queries), 'picture')} · {said.get('name', '')}"
    first = str(queries[0]) if str(queries[0]).startswith("test:") else "a query of your own"
    return f"{first if len(queries) == 1 else f'{len(queries)} queries'} · {said.get('name', '')}"


def _subject_of_painting(options: Mapping[str, Option]) -> str:
    prompt, seed = options.get("prompt"), options.get("seed")
    return f"seed {seed}" if prompt is None else f"{prompt} · seed {seed}"


def link_of(job: JobStatus) -> dict[str, str]:
    """Return what the link to a job's result says beside the page, or nothing where that says all or there is none."""
    options = job.options
    match job.kind:
        case "generate":
            return {name: str(value) for name, value in options.items() if value is not None}
        case "generation":
            runs = (job.result or {}).get("runs")
            return {"run": str(runs[0])} if isinstance(runs, list) and len(runs) == 1 else {}
        case "attribute":
            return _link_of_answer(options)
        case "trace":
            return _link_of_trace(options)
        case "picture-removal":
            answer = (job.result or {}).get("answer")
            return {"run": answer} if isinstance(answer, str) else {}
        case "removal":
            asked = {name: str(options.get(name, "")) for name in ("query", "target", "k", "scope")}
            return {"part": "removal", **asked, "method": str(_record(options.get("method")).get("name", ""))}
        case "canaries":
            return {"part": "canaries", "scope": str(options.get("scope", ""))}
        case "controls":
            return {"part": "canaries"}
        case "hypothesis":
            return {"part": "hypothesis", "kind": str(options.get("part", ""))}
        case "lds":
            return {"part": "lds"}
    return {}


def _link_of_answer(options: Mapping[str, Option]) -> dict[str, str]:
    queries, method = options.get("queries"), _record(options.get("method"))
    if not isinstance(queries, list) or len(queries) != 1 or not method:
        return {}
    target = options.get("target")
    return {"query": str(queries[0]), "method": str(method.get("name", ""))} | (
        {"target": str(target)} if isinstance(target, int) and target >= 0 else {}
    )


def _link_of_trace(options: Mapping[str, Option]) -> dict[str, str]:
    question, method = _record(options.get("question")), _record(options.get("method"))
    prompts, completions, span = (question.get(name) for name in ("prompts", "completions", "span"))
    if not isinstance(prompts, list) or not isinstance(completions, list) or len(prompts) != 1:
        return {}
    places = ",".join(str(place) for place in span) if isinstance(span, list) else ""
    said = {"prompt": str(prompts[0]), "completion": "".join(str(one) for one in completions[:1]), "span": places}
    return {name: value for name, value in {**said, "method": str(method.get("name", ""))}.items() if value}


def _record(value: Option) -> Mapping[str, Option]:
    return value if isinstance(value, dict) else {}


def act(project: Path, job_id: int, action: str) -> None:
    """Cancel a job of this project, or go on with it. Raises JobError where it has none of this id."""
    from forwardinf_core.errors import JobError
    from forwardinf_core.jobs import run

    if action not in ("cancel", "retry"):
        raise JobError(f"A job can be cancelled or retried, not {action}.")
    if run.status(job_id).project != project.expanduser().resolve():
        raise JobError(f"This project has no job {job_id}.", hint="Reload the page.")
    (run.cancel if action == "cancel" else run.retry)(job_id)
