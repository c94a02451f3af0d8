"""The process that does one job. It reports to the worker through a pipe, and ends when the worker does."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from forwardinf_core.errors import AuditError, CancelledError, CodeRefusedError, DiskFullError, JobError
from forwardinf_core.jobs.context import Progress, project_gone
from forwardinf_core.jobs.execution import available_threads, execute
from forwardinf_core.jobs.memory import peak_bytes
from forwardinf_core.jobs.queue import JobStatus, State
from forwardinf_core.jobs.registry import find_kind
from forwardinf_core.projects.places import ALLOW_CODE
from forwardinf_core.store.binding import Option
from forwardinf_core.store.files import FULL


@dataclass(frozen=True)
class Started:
    """The child is up."""

    threads: int


@dataclass(frozen=True)
class Reported:
    """The job's progress."""

    progress: Progress
    peak_bytes: int


@dataclass(frozen=True)
class Logged:
    """A line for the job's log."""

    text: str


@dataclass(frozen=True)
class Ended:
    """How the job ended. ``error`` and ``hint`` are for a person."""

    state: State
    peak_bytes: int
    result: dict[str, Option] | None = None
    error: str = ""
    hint: str = ""


Message = Started | Reported | Logged | Ended


class Link:
    """The child's end of the pipe. A thread listens: a word means cancel, the end of the pipe means the worker died."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._turn = threading.Lock()
        self.cancelled = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def send(self, message: Message) -> None:
        with self._turn:
            self._connection.send(message)

    def _listen(self) -> None:
        while True:
            try:
                self._connection.recv()
            except (EOFError, OSError):
                os._exit(1)  # nobody would hear of the result; the next worker goes on from the chunks
            self.cancelled.set()


def main(connection: Connection, job: JobStatus, modules: Sequence[str], log_file: Path) -> None:
    """Do one job; everything the work prints goes to ``log_file``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the worker, which tells us
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _redirect_output(log_file)
    link = Link(connection)
    link.send(_outcome(link, job, modules, log_file))


def _outcome(link: Link, job: JobStatus, modules: Sequence[str], log_file: Path) -> Ended:
    try:
        result = _execute(link, job, modules)
    except CancelledError as error:
        return Ended("cancelled", peak_bytes(), error=error.title, hint=error.hint)
    except Exception as error:  # noqa: BLE001  # whatever a job may raise, its row must say so
        return _failure(error, job, log_file)
    return Ended("done", peak_bytes(), result)


def _execute(link: Link, job: JobStatus, modules: Sequence[str]) -> dict[str, Option]:
    threads = job.threads or available_threads()
    link.send(Started(threads))
    for name in modules:
        importlib.import_module(name)
    kind = find_kind(job.kind)
    if kind.version != job.version:
        raise JobError(
            f"This {job.kind} job was started by version {job.version} of its code, this program has {kind.version}.",
            hint="Start it anew; its chunks do not fit any more.",
        )
    return execute(
        kind,
        job.project,
        kind.options_of(job.options),
        binding=job.binding,
        on_report=lambda progress: link.send(Reported(progress, peak_bytes())),
        on_log=lambda text: link.send(Logged(text)),
        is_cancelled=link.cancelled.is_set,
        threads=threads,
        halvings=job.halvings,
        lock_timeout_s=-1,  # the same work in the foreground: wait for it; a cancel still ends us
    )


def _failure(error: Exception, job: JobStatus, log_file: Path) -> Ended:
    peak = peak_bytes()
    if not job.project.is_dir():
        error = project_gone(job.project)
    elif isinstance(error, OSError) and error.errno in FULL:
        error = DiskFullError("The disk is full.", hint="Make room and resume; everything finished so far is kept.")
    elif isinstance(error, CodeRefusedError):
        error = _code_not_allowed(job)
    if isinstance(error, DiskFullError):
        return Ended("paused", peak, error=error.title, hint=error.hint)
    if isinstance(error, AuditError):
        return Ended("failed", peak, error=error.title, hint=error.hint)
    traceback.print_exception(error)
    said = f"{type(error).__name__}: {error}".splitlines()[0]
    return Ended("failed", peak, error=f"The job stopped by a fault of the program ({said}).", hint=f"See {log_file}.")


def _code_not_allowed(job: JobStatus) -> JobError:
    """Return what is said where the app may run a project's code and the worker, started by someone else, may not.

    The worker's own start decides: what stands in the queue can never give a permission.
    """
    return JobError(
        "The model of this project is code, and the worker for long work was started without the permission to run it.",
        hint=f"End the worker (process {job.worker_pid}), then retry from an app that was started with {ALLOW_CODE}=1: "
        "it starts a worker with its own permission.",
    )


def _redirect_output(log_file: Path) -> None:
    try:
        handle = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError:  # a full or read-only disk must not keep the job from saying so itself
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)
