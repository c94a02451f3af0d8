"""Opening the project in the background when the server starts, so that the first screen only has to wait, not work."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Literal, Protocol

from forwardinf_core.errors import AuditError
from forwardinf_core.ui.navigation import DIFFUSION

LOG = logging.getLogger(__name__)

ADDRESS = "/opening"  # where the web server tells how far it is
PROJECT_VARIABLE = "FORWARDINF_PROJECT"
DEFAULT_PROJECT = "demo:digits"
GENERIC_FAULT = AuditError(
    "The project could not be opened because of a fault in the program.",
    hint="The details are in the program's log.",
)

Report = Callable[[float, str], None]


class OpenProject(Protocol):
    """An open project of any task; the pages of a task know which class it is."""

    @property
    def project_name(self) -> str: ...
    @property
    def folder(self) -> Path: ...
    @property
    def task(self) -> str: ...


Opener = Callable[[str, Report], OpenProject]


_NUMBERS = count()


class Opening:
    """One attempt to open a project in a thread of its own. Read its fields from any thread; never blocks a screen."""

    def __init__(self, project_ref: str, opener: Opener, task_of: Callable[[str], str] = lambda _ref: "") -> None:
        self.project_ref = project_ref
        self.task = ""  # known soon after the start, long before the project is open
        self.name = f"opening-{next(_NUMBERS)}"
        self.phase: Literal["opening", "ready", "failed"] = "opening"
        self.fraction = 0.0
        self.note = "Loading the libraries"
        self.audit: OpenProject | None = None
        self.fault: AuditError | None = None
        self._opener, self._task_of = opener, task_of
        self._thread = threading.Thread(target=self._open, name="open-project", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wait(self, timeout_s: float) -> None:
        """Wait until the attempt has ended, at most so long."""
        self._thread.join(timeout_s)

    def report(self, fraction: float, note: str) -> None:
        """Note how far it is (0 to 1) and what is being done."""
        self.fraction, self.note = min(max(fraction, 0.0), 1.0), note

    def _open(self) -> None:
        try:
            self.task = self._task_of(self.project_ref)
            self.audit = self._opener(self.project_ref, self.report)
            self.task = self.audit.task
        except AuditError as error:
            self.fault, self.phase = error, "failed"
        except Exception:
            LOG.exception("opening %s failed", self.project_ref)
            self.fault, self.phase = GENERIC_FAULT, "failed"
        else:
            self.phase = "ready"


def task_wanted(project_ref: str) -> str:
    """Return the task of a project, also of a demo that is still to be built."""
    from forwardinf_core.audits.opening import task_of  # heavy: not before the server answers

    return task_of(project_ref)


def open_project(project_ref: str, report: Report) -> OpenProject:
    """Open a project, building it first where it is a demo that is not there yet."""
    report(0.0, "Opening the project")
    from forwardinf_core.audits import costs
    from forwardinf_core.audits.generation import costs as of_pictures
    from forwardinf_core.audits.generation.opening import open_generation_audit
    from forwardinf_core.audits.opening import ensure_demo, open_audit
    from forwardinf_core.audits.tracing import costs as of_texts
    from forwardinf_core.audits.tracing.opening import open_tracing
    from forwardinf_core.jobs.run import run_in_worker
    from forwardinf_core.projects.demos.catalogue import CATALOGUE
    from forwardinf_core.projects.language import language_task_of
    from forwardinf_core.projects.load import DEMO_PREFIX
    from forwardinf_core.projects.load import open_project as open_config

    demo = CATALOGUE.get(project_ref.removeprefix(DEMO_PREFIX)) if project_ref.startswith(DEMO_PREFIX) else None
    if demo is not None and not demo.is_there:
        ensure_demo(demo.name, run_in_worker, lambda fraction, note: report(0.8 * fraction, note))
    if language_task_of(project_ref) is not None:
        tracing = open_tracing(
            project_ref, runner=run_in_worker, report=lambda fraction, note: report(0.8 + 0.2 * fraction, note)
        )
        of_texts.dry_run_of(tracing).measure_aside()
        return tracing
    if open_config(project_ref).config.task in DIFFUSION:
        generation = open_generation_audit(project_ref, runner=run_in_worker, report=report)
        of_pictures.dry_run_of(generation).measure_aside()
        return generation
    audit = open_audit(project_ref, runner=run_in_worker, report=report)
    costs.dry_run_of(audit).measure_aside()
    return audit


_LOCK = threading.Lock()
_current: Opening | None = None


def project_wanted() -> str:
    """Return the project named on the command line after ``--``, else by FORWARDINF_PROJECT, else the digits demo."""
    named = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    under_streamlit = sys.argv[0].endswith("app.py")
    return (named[0] if named and under_streamlit else os.environ.get(PROJECT_VARIABLE, "")) or DEFAULT_PROJECT


def current() -> Opening:
    """Return the process's one attempt to open its project, starting it on first use."""
    global _current
    with _LOCK:
        if _current is None:
            _current = Opening(project_wanted(), open_project, task_wanted)
            _current.start()
        return _current


def again() -> None:
    """Forget a failed attempt and start a new one."""
    global _current
    with _LOCK:
        _current = None
    current()
