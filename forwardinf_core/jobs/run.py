"""What pages, audits and the command line call: do work here, or hand it to the worker and ask how it is.

The project is the folder of the project. The function is the same either way, and so is its result, bit for bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from forwardinf_core.errors import CancelledError, JobError
from forwardinf_core.jobs import queue
from forwardinf_core.jobs.context import Progress, project_gone
from forwardinf_core.jobs.execution import available_threads, execute, remove_work
from forwardinf_core.jobs.queue import JobStatus
from forwardinf_core.jobs.registry import find_kind
from forwardinf_core.jobs.worker import ensure_worker, is_worker_alive, settle_orphans
from forwardinf_core.store.binding import Option
from forwardinf_core.store.files import make_folder
from forwardinf_core.store.places import audit_dir

FOREGROUND_LOCK_S = 5.0  # the child of a worker that was just killed ends within moments
LOOK_S = 0.15  # between two looks at a job someone waits for
LOST_AFTER_S = 10.0  # without a sign of the worker
Report = Callable[[float, float, str], None]


def _silent(_done: float, _total: float, _note: str) -> None:
    return


def _no_log(_text: str) -> None:
    return


def run_here(
    kind: str,
    project: Path,
    options: object,
    report: Report = _silent,
    *,
    log: Callable[[str], None] = _no_log,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> dict[str, Option]:
    """Do the work in this process and return its summary; ``report(done, total, note)`` is told how far it is.

    Interrupted and called again, it goes on from its last finished chunk. Raises CancelledError, JobError where another
    process is at the same work, and what the job raises.
    """
    project = _folder(project)
    found = find_kind(kind)
    binding = found.binding(project, options)

    def on_report(progress: Progress) -> None:
        report(progress.done, progress.total, progress.note)

    result = execute(
        found,
        project,
        options,
        binding=binding,
        on_report=on_report,
        on_log=log,
        is_cancelled=is_cancelled,
        threads=available_threads(),
        lock_timeout_s=FOREGROUND_LOCK_S,
    )
    remove_work(project, binding)
    return result


def submit(kind: str, project: Path, options: object) -> int:
    """Queue the work for the worker, starting that where needed, and return the id of the job.

    Where the same work (kind, options and fingerprints) waits, runs or is paused, that job's id is returned. Raises
    JobError, and StoreError where the queue or the project's folder cannot be written.
    """
    project = _folder(project)
    make_folder(audit_dir(project))
    job_id = queue.add(find_kind(kind).binding(project, options), project)
    ensure_worker()
    return job_id


def find(kind: str, project: Path, options: object) -> JobStatus | None:
    """Return the newest job of this very work (kind, options and fingerprints), an active one first, or None."""
    project = project.expanduser().resolve()
    known = [job for job in queue.read_all(project) if job.kind == kind]
    if not known:
        return None
    key = find_kind(kind).binding(project, options).key()
    same = [job for job in known if job.binding.key() == key]
    return next((job for job in same if job.is_active), max(same, key=lambda job: job.id, default=None))


def submit_once(kind: str, project: Path, options: object) -> JobStatus:
    """Return the job of this work that waits, runs or has stopped; queue one where there is none, or it is done.

    For a page that is drawn again and again: what has failed is not begun again before a person asks for it.
    """
    found = find(kind, project, options)
    return found if found is not None and found.state != "done" else status(submit(kind, project, options))


def run_in_worker(kind: str, project: Path, options: object, report: Report = _silent) -> dict[str, Option]:
    """Hand the work to the worker, wait for it and return its summary; the work goes on where the caller dies.

    Raises AuditError with the sentence that stopped it, CancelledError where someone cancelled it.
    """
    job_id = submit(kind, project, options)
    while (found := status(job_id)).is_active:
        report(found.done, found.total, found.note or "Waiting for the worker")
        if found.heartbeat_age_s is None or found.heartbeat_age_s > LOST_AFTER_S:
            resume_pending()
        time.sleep(LOOK_S)
    if found.state == "cancelled":
        raise CancelledError("The job was cancelled.", hint="Retry it; its finished chunks are kept.")
    if found.result is None:
        raise JobError(found.error or f"The job ended as {found.state}.", hint=found.hint)
    return found.result


def status(job_id: int) -> JobStatus:
    """Return how a job stands. Raises JobError where there is none of this id."""
    return queue.read(job_id)


def list_jobs(project: Path | None = None) -> list[JobStatus]:
    """Return the jobs of a project, or of the machine: running, waiting in their turn, paused, then newest first."""
    return queue.read_all(None if project is None else project.expanduser().resolve())


def cancel(job_id: int) -> JobStatus:
    """Stop a job, within two seconds where it runs; its finished chunks stay. A finished job is left as it is."""
    if queue.request_cancel(job_id) == "running" and not is_worker_alive():
        settle_orphans()
    return queue.read(job_id)


def retry(job_id: int) -> int:
    """Go on with a failed, paused or cancelled job from its last finished chunk; return the id of the active job."""
    active = queue.queue_again(job_id)
    ensure_worker()
    return active


def resume_pending() -> bool:
    """Start a worker where jobs wait, or were left by one that died; return whether one was started.

    For the start of the app, and for a panel that shows an active job whose heartbeat is old.
    """
    return any(job.is_active for job in queue.read_all()) and ensure_worker()


def _folder(project: Path) -> Path:
    resolved = project.expanduser().resolve()
    if not resolved.exists():
        raise project_gone(resolved)
    if not resolved.is_dir():
        raise JobError(f"{resolved} is not a folder.", hint="Give the folder of the project.")
    return resolved
