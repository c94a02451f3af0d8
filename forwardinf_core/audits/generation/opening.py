"""Opening a diffusion project: build the demo where it is not there, then load model and rows."""

from __future__ import annotations

from pathlib import Path

from forwardinf_core.audits.generation.tracing import GenerationAudit, load_generation_audit
from forwardinf_core.audits.opening import Report, Runner, ensure_demo
from forwardinf_core.jobs import run as jobs
from forwardinf_core.projects.demos.catalogue import CATALOGUE
from forwardinf_core.projects.load import DEMO_PREFIX


def open_generation_audit(
    project_ref: str | Path, *, runner: Runner = jobs.run_here, report: Report | None = None
) -> GenerationAudit:
    """Return an open diffusion project. One per project and state of its files, in this process.

    Raises ProjectError, DataError or ModelError with a sentence where it cannot be traced.
    """
    tell = report or (lambda _fraction, _note: None)
    text = str(project_ref)
    name = text.removeprefix(DEMO_PREFIX) if text.startswith(DEMO_PREFIX) else None
    if name is not None and not (name in CATALOGUE and CATALOGUE[name].is_there):
        ensure_demo(name, runner, lambda fraction, note: tell(0.9 * fraction, note))
    tell(0.9, "Opening the project")
    audit = load_generation_audit(project_ref)
    tell(1.0, "Ready")
    return audit
