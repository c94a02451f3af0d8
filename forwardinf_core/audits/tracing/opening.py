"""Opening a language project for tracing, and tracing as a job: the same work in the foreground and in the worker."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from forwardinf_core.audits.tracing.audit import Question, TracingAudit
from forwardinf_core.audits.tracing.methods import TraceMethod
from forwardinf_core.jobs.context import JobContext
from forwardinf_core.jobs.registry import job
from forwardinf_core.projects.language import LanguageProject, open_language_project
from forwardinf_core.store.binding import Option
from forwardinf_core.store.files import sha256

Runner = Callable[[str, Path, object, Callable[[float, float, str], None]], dict[str, Option]]
Report = Callable[[float, str], None]

_LOADED: dict[Path, tuple[str, TracingAudit]] = {}
_LOADING = threading.Lock()


@dataclass(frozen=True)
class TraceOptions:
    """A question and how it is answered."""

    question: Question
    method: TraceMethod


@dataclass(frozen=True)
class PrepareTraceOptions:
    """Which methods should be ready to answer."""

    methods: tuple[TraceMethod, ...]


def load_tracing(ref: str | Path) -> TracingAudit:
    """Return the audit of a project; the same one again in this process while none of its files change."""
    project = open_language_project(ref)
    stamp = _stamp(project)
    with _LOADING:
        known = _LOADED.get(project.root)
        if known is not None and known[0] == stamp:
            return known[1]
        audit = TracingAudit(project, project.load_model())
        _LOADED[project.root] = (stamp, audit)
        return audit


def open_tracing(ref: str | Path, *, runner: Runner, report: Report) -> TracingAudit:
    """Return the audit of a project with the default method ready to answer."""
    report(0.0, "Opening the project")
    audit = load_tracing(ref)
    usual = audit.method()
    if not audit.place.is_ready(usual):

        def on_report(done: float, total: float, note: str) -> None:
            report(done / total if total else 0.0, note)

        runner("trace-prepare", audit.folder, PrepareTraceOptions((usual,)), on_report)
    report(1.0, "Ready")
    return audit


def fingerprints_of(project: Path, _options: object) -> dict[str, str]:
    """Return what a trace of this project reads."""
    audit = load_tracing(project)
    return {"model": audit.model.fingerprint, "texts": audit.project.texts.fingerprint}


@job("trace", version=1, fingerprints=fingerprints_of)
def trace(context: JobContext, options: TraceOptions) -> dict[str, Option]:
    """Trace a completion, making what the method needs first. Returns the id of the run."""
    audit = load_tracing(context.project)
    found = audit.trace(options.question, options.method, lambda share, note: context.report(share, 1.0, note))
    return {"run": found.run_id}


@job("trace-prepare", version=1, fingerprints=fingerprints_of)
def prepare_trace(context: JobContext, options: PrepareTraceOptions) -> dict[str, Option]:
    """Make what later answers need."""
    audit = load_tracing(context.project)
    for number, method in enumerate(options.methods):
        start = float(number)

        def on_report(share: float, note: str, start: float = start) -> None:
            context.report(start + share, float(len(options.methods)), note)

        audit.place.prepare(method, on_report)
    return {"methods": [method.name for method in options.methods]}


def _stamp(project: LanguageProject) -> str:
    """Return a text that changes whenever a file of the project does: paths, sizes and times of change."""
    sources = [project.config.train.path, project.config.model.path]
    parts = []
    for name in ["project.yaml", *sources]:
        path = project.root / name
        for file in sorted(found for found in path.rglob("*") if found.is_file()) if path.is_dir() else [path]:
            if file.exists():
                found = file.stat()
                parts.append(f"{file} {found.st_size} {found.st_mtime_ns}")
    return sha256("\n".join(parts).encode())
