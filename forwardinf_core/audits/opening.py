"""Opening a project for audits: build the demo where it is not there, load model and rows, make the head's cache.

What is long is a job: done here for the command line, handed to the worker for the app.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from forwardinf_core.audits.attribution import VERSION, AttributeOptions, answer
from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.methods import method_named
from forwardinf_core.audits.preparation import PrepareOptions
from forwardinf_core.jobs import run as jobs
from forwardinf_core.jobs.context import JobContext
from forwardinf_core.jobs.registry import job
from forwardinf_core.projects.demos.catalogue import CATALOGUE
from forwardinf_core.projects.language import language_task_of
from forwardinf_core.projects.load import DEMO_PREFIX, Project, locate, open_project, project_paths
from forwardinf_core.projects.places import demo_folder
from forwardinf_core.store.binding import Option
from forwardinf_core.store.files import make_folder, sha256

DEMO_VERSION = 1

Report = Callable[[float, str], None]
Runner = Callable[[str, Path, object, Callable[[float, float, str], None]], dict[str, Option]]
"""``jobs.run_here`` or ``jobs.run_in_worker``: kind, project folder, options, report(done, total, note)."""


_LOADED: dict[Path, tuple[str, Audit]] = {}
_LOADING = threading.Lock()


@dataclass(frozen=True)
class DemoOptions:
    """Which demo to build."""

    name: str


@job("demo", version=DEMO_VERSION)
def build_demo(context: JobContext, options: DemoOptions) -> dict[str, Option]:
    """Build a demo project, whole or not at all. The job's project is the folder of all demos."""
    folder = context.project / options.name
    CATALOGUE[options.name].build(folder, lambda fraction, note: context.report(fraction, 1.0, note))
    return {"folder": str(folder)}


def ensure_demo(name: str, runner: Runner, report: Report) -> Path:
    """Return the folder of a demo, built first where it is missing or of an older version."""
    if name not in CATALOGUE:
        locate(f"{DEMO_PREFIX}{name}")  # raises the sentence that names the demos
    parent = demo_folder(name).parent
    make_folder(parent)
    runner("demo", parent, DemoOptions(name), lambda done, total, note: report(done / total if total else 0.0, note))
    return demo_folder(name)


def task_of(project_ref: str | Path) -> str:
    """Return the task of a project, also of a demo that is not built yet. Raises ProjectError where there is none."""
    text = str(project_ref)
    if text.startswith(DEMO_PREFIX) and text.removeprefix(DEMO_PREFIX) in CATALOGUE:
        return CATALOGUE[text.removeprefix(DEMO_PREFIX)].task
    return language_task_of(project_ref) or open_project(project_ref).config.task


def open_audit(project_ref: str | Path, *, runner: Runner = jobs.run_here, report: Report | None = None) -> Audit:
    """Return an open audit with the head ready to answer. One per project and state of its files, in this process.

    Raises ProjectError, DataError or ModelError with a sentence where the project cannot be audited.
    """
    tell = report or (lambda _fraction, _note: None)
    name = str(project_ref).removeprefix(DEMO_PREFIX) if str(project_ref).startswith(DEMO_PREFIX) else None
    if name is not None and not (name in CATALOGUE and CATALOGUE[name].is_there):
        ensure_demo(name, runner, lambda fraction, note: tell(0.8 * fraction, note))
    tell(0.8, "Opening the project")
    audit = load_audit(project_ref)
    if audit.model.head is not None and not audit.is_quick(quick := method_named("head")):

        def on_report(done: float, total: float, note: str) -> None:
            tell(0.85 + 0.15 * (done / total if total else 0.0), note)

        runner("prepare", audit.project.root, PrepareOptions(("head",), (quick,)), on_report)
    tell(1.0, "Ready")
    return audit


def load_audit(project_ref: str | Path, *, allow_code: bool = False) -> Audit:
    """Return the audit of a project; the same one again in this process while none of the project's files change."""
    project = open_project(project_ref)
    stamp = stamp_of(project)
    with _LOADING:
        known = _LOADED.get(project.root)
        if known is not None and known[0] == stamp:
            return known[1]
        model = project.load_model(allow_code=allow_code)
        audit = Audit(project, model, project.train_rows(model.classes), project.test_rows(model.classes))
        _LOADED[project.root] = (stamp, audit)
        return audit


def stamp_of(project: Project) -> str:
    """Return a text that changes whenever a file of the project does: paths, sizes and times of change."""
    parts = []
    for name in ["project.yaml", *(path for _, path in project_paths(project.config))]:
        path = project.root / name
        files = sorted(found for found in path.rglob("*") if found.is_file()) if path.is_dir() else [path]
        for file in files:
            if file.exists():
                found = file.stat()
                parts.append(f"{file} {found.st_size} {found.st_mtime_ns}")
    return sha256("\n".join(parts).encode())


def fingerprints_of(project: Path, _options: object) -> dict[str, str]:
    """Return what an attribution of this project reads."""
    audit = load_audit(project)
    return {"model": audit.model.fingerprint, "train": audit.train.fingerprint, "test": audit.test.fingerprint}


@job("attribute", version=VERSION, fingerprints=fingerprints_of)
def attribute_queries(context: JobContext, options: AttributeOptions) -> dict[str, Option]:
    """Attribute queries, making caches and curvature first where they are missing. Returns the ids of the runs."""
    audit = load_audit(context.project)
    return {"runs": [record.id for record in answer(audit, options.queries, options.method, options.target, context)]}


@job("prepare", version=VERSION, fingerprints=fingerprints_of)
def prepare(context: JobContext, options: PrepareOptions) -> dict[str, Option]:
    """Make the caches and fit the curvatures that later answers need."""
    place = load_audit(context.project).workplace(context)
    for name in options.scopes:
        place.scope(name)
    for method in options.methods:
        place.curvature(place.scope(method.scope), method)
    return {"scopes": list(options.scopes), "methods": [method.name for method in options.methods]}
