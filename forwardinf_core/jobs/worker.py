"""The worker: one process a machine that takes jobs from the queue and has a child do each.

A lock file held by the operating system makes it the only one, and is free the moment it dies, however it dies. Who
takes the lock therefore knows that a job still called running has lost its worker, and queues it again; no clock has a
say in it. The child does the work, so that a cancel always works: the child is asked, then ended; its finished chunks
stay. The worker is nice and its threads sleep when idle, so that the interface stays responsive.
"""

from __future__ import annotations

import importlib.util
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from multiprocessing import forkserver
from pathlib import Path

from forwardinf_core.errors import JobError, StoreError
from forwardinf_core.jobs import queue
from forwardinf_core.jobs.task import RETRY_S, Task, lock_file, log_folder, start_method
from forwardinf_core.projects.places import user_folder
from forwardinf_core.store.files import disk_errors, make_folder
from forwardinf_core.store.locks import turn

POLL_S = 0.2  # new jobs are seen this late
IDLE_EXIT_S = 300.0
START_TIMEOUT_S = 3.0  # a look whether the lock is free holds it for a moment
NICENESS = 10
LOGGER = logging.getLogger(__name__)


def worker_turn(timeout_s: float) -> AbstractContextManager[bool]:
    """Hold the worker's lock as True, or False where another process holds it. Raises StoreError."""
    make_folder(user_folder())
    return turn(lock_file(), timeout_s)


def is_worker_alive() -> bool:
    """Say whether a worker holds the lock of this machine."""
    with worker_turn(0) as free:
        return not free


def ensure_worker(modules: Sequence[str] = ()) -> bool:
    """Start a worker process unless there is one; return whether one was started. Does not wait for it.

    ``modules`` are what the worker imports for their jobs, instead of all that the program has.
    Raises JobError where the one that was started before failed, and StoreError where this machine's folder is
    closed to us.
    """
    global _started
    earlier = _started[1] if _started is not None and _started[0] == lock_file() else None
    if is_worker_alive() or (earlier is not None and earlier.poll() is None):
        return False
    failed = earlier is not None and earlier.returncode > 0
    _started = None
    if failed:
        raise JobError("The worker for long work could not start.", hint=f"See {log_folder() / 'worker.log'}.")
    make_folder(log_folder())
    log = log_folder() / "worker.log"
    command = [sys.executable, "-m", "forwardinf_core", "worker"]
    for name in modules:
        command += ["--jobs", name]
    with disk_errors(log), log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603  # our own program
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, env=_environment()
        )
    _started = lock_file(), process
    return True


_started: tuple[Path, subprocess.Popen[bytes]] | None = None  # by this process, the latest, with its lock's path


def settle_orphans() -> None:
    """Where no worker lives, queue what a dead one left running (or cancel it, where that was asked)."""
    with worker_turn(0) as free:
        if free:
            queue.requeue_orphans()


class Worker:
    """Takes jobs until the queue stays empty, ``stop`` is called, or its folder is deleted."""

    def __init__(self, modules: Sequence[str], *, idle_exit_s: float = IDLE_EXIT_S) -> None:
        self.modules = tuple(modules)
        self.idle_exit_s = idle_exit_s
        self._stopping = threading.Event()

    def stop(self, *_: object) -> None:
        """Make ``run`` end soon; the job in hand is queued again. Fit for a signal handler."""
        self._stopping.set()

    def run(self) -> bool:
        """Work. Returns False at once where another worker lives."""
        os.environ.update(_environment())
        if hasattr(os, "nice"):
            os.nice(NICENESS)
        while True:
            with worker_turn(START_TIMEOUT_S) as free:
                if not free:
                    return False
                make_folder(log_folder())
                self._warm_up()
                queue.requeue_orphans()
                self._serve()
            # a job that came while we let go of the lock saw a worker, and counts on us
            if self._stopping.is_set() or not lock_file().exists() or not _is_anything_queued():
                return True

    def _serve(self) -> None:
        idle_since, watch = time.monotonic(), queue.Watch()
        while not self._stopping.is_set() and lock_file().exists():
            try:
                job = queue.claim(os.getpid(), queue.boot_id()) if watch.has_news() else None
            except StoreError as error:
                LOGGER.warning("%s", error)
                watch.forget()
                self._stopping.wait(RETRY_S)
                continue
            if job is not None:
                Task(job, self.modules, self._stopping).run()
                watch.forget()
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since > self.idle_exit_s:
                return
            else:
                self._stopping.wait(POLL_S)

    def _warm_up(self) -> None:
        """Start the process that children are forked from, which imports PyTorch and the jobs once for all of them."""
        if start_method() == "forkserver":
            # a module that cannot be found is left for the child to report
            known = [name for name in ("torch", *self.modules) if _is_importable(name)]
            multiprocessing.set_forkserver_preload(["__main__", *known])
            forkserver.ensure_running()


def _is_anything_queued() -> bool:
    return any(job.state == "queued" for job in queue.read_all())


def _is_importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False


def _environment() -> dict[str, str]:
    """Return the environment of worker and children: idle threads sleep instead of spinning, our package is found."""
    package = str(Path(__file__).resolve().parents[2])
    paths = [
        package,
        *(path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path != package),
    ]
    return {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": os.pathsep.join(paths)}


def serve(modules: Sequence[str], *, idle_exit_s: float = IDLE_EXIT_S) -> bool:
    """Be the worker of this machine until there is nothing to do or a signal ends it; False where there is one."""
    worker = Worker(modules, idle_exit_s=idle_exit_s)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, worker.stop)
    return worker.run()
