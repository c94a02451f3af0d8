"""The machine's queue: a database row per job, and the few changes of state there are.

queued → running → done | failed | cancelled | paused; paused, failed and cancelled → queued by retry. Every change is
one statement that names the state it starts from, so two processes cannot both make it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.engine import CursorResult

from forwardinf_core.errors import JobError
from forwardinf_core.store.binding import Binding, Option
from forwardinf_core.store.database import queue_database, queue_file
from forwardinf_core.store.tables import JobRow

State = Literal["queued", "running", "paused", "done", "failed", "cancelled"]
ACTIVE: tuple[State, ...] = ("queued", "running", "paused")
MAX_WAITING = 200  # more than anyone can oversee; a script that submits in a loop is told so
KEPT_FINISHED = 500  # older finished rows are forgotten; the runs they made are not


@dataclass(frozen=True)
class JobStatus:
    """A job as it stands. ``seconds_left`` and ``rate`` (units a second) are None while nothing is known of them.

    ``error`` and ``hint`` are the sentences of a failed or paused job. ``heartbeat_age_s`` is the time since the worker
    last wrote the row of a running job. created, started and finished are in seconds since 1970, for display.
    """

    id: int
    kind: str
    version: int
    project: Path
    state: State
    done: float
    total: float
    note: str
    rate: float | None
    seconds_left: float | None
    options: dict[str, Option]
    fingerprints: dict[str, str]
    log: tuple[str, ...]
    error: str
    hint: str
    result: dict[str, Option] | None
    peak_bytes: int
    threads: int | None
    attempt: int
    halvings: int
    crashes: int
    crashed_at: float
    cancel_requested: bool
    worker_pid: int | None
    heartbeat_age_s: float | None
    created: float
    started: float | None
    finished: float | None

    @property
    def is_active(self) -> bool:
        return self.state in ("queued", "running")

    @property
    def binding(self) -> Binding:
        return Binding(self.kind, self.fingerprints, self.options, self.version)


def add(binding: Binding, project: Path) -> int:
    """Add a job, or return the active one that is the same work; a paused one is queued again. Raises JobError."""
    record, key = binding.record(), binding.key()
    with queue_database().writing() as session:
        same = JobRow.project == str(project), JobRow.key == key, JobRow.state.in_(ACTIVE)
        row = session.scalars(select(JobRow).where(*same)).first()
        if row is not None:
            if row.state == "paused":
                _queue_again(row)
            return row.id
        waiting = session.scalar(select(func.count()).where(JobRow.state == "queued")) or 0
        if waiting >= MAX_WAITING:
            raise JobError(f"The queue is full: {waiting} jobs wait.", hint="Cancel some, or let them finish.")
        last = session.scalar(select(func.max(JobRow.id))) or 0
        session.query(JobRow).where(JobRow.id <= last - KEPT_FINISHED, JobRow.state.not_in(ACTIVE)).delete()
        row = JobRow(
            kind=binding.kind,
            version=binding.version,
            project=str(project),
            key=key,
            options=record["options"],
            fingerprints=record["fingerprints"],
            state="queued",
            created=time.time(),
        )
        session.add(row)
        session.flush()
        return row.id


def read(job_id: int) -> JobStatus:
    """Return one job. Raises JobError where there is none."""
    with queue_database().reading() as session:
        row = session.get(JobRow, job_id)
        if row is None:
            raise JobError(f"There is no job {job_id}.", hint="See `jobs` for those there are.")
        return _status(row)


def read_all(project: Path | None = None) -> list[JobStatus]:
    """Return the jobs of a project, or of the machine: running first, then waiting in their turn, then newest first."""
    query = select(JobRow)
    if project is not None:
        query = query.where(JobRow.project == str(project))
    with queue_database().reading() as session:
        rows = [_status(row) for row in session.scalars(query)]
    turn = {"running": 0, "queued": 1, "paused": 2}
    return sorted(rows, key=lambda row: (turn.get(row.state, 3), row.id if row.state == "queued" else -row.id))


class Watch:
    """Says when asking the queue may bring news: looking at its files costs microseconds, asking it milliseconds."""

    def __init__(self) -> None:
        self._mark: object = None
        self._looks = 0

    def has_news(self) -> bool:
        """Say whether anyone may have written since this was last asked."""
        found = []
        for file in (queue_file(), queue_file().with_name(f"{queue_file().name}-wal")):
            with contextlib.suppress(FileNotFoundError):
                status = file.stat()
                found.append((status.st_mtime_ns, status.st_size))
        # twice for each state: a write in the same tick of the file's clock leaves the same mark
        self._looks = self._looks + 1 if found == self._mark else 1
        self._mark = found
        return self._looks <= 2

    def forget(self) -> None:
        """Have the next look bring news; after the queue could not be asked."""
        self._mark = None


def claim(worker_pid: int, boot: str) -> JobStatus | None:
    """Take the next waiting job, which is then running, or return None."""
    database = queue_database()
    with database.reading() as session:
        if session.scalar(select(JobRow.id).where(JobRow.state == "queued").limit(1)) is None:
            return None
    with database.writing() as session:
        row = session.scalars(select(JobRow).where(JobRow.state == "queued").order_by(JobRow.id)).first()
        if row is None:
            return None
        row.state, row.worker_pid, row.boot, row.heartbeat_s = "running", worker_pid, boot, time.monotonic()
        row.attempt += 1
        row.started = row.started or time.time()
        row.finished, row.rate, row.error_title, row.error_hint, row.result = None, None, "", "", None
        session.flush()
        return _status(row)


def cancel_wanted(job_id: int) -> bool | None:
    """Say whether a running job was asked to stop; None where it is not running any more, or its row has gone."""
    with queue_database().reading() as session:
        where = JobRow.id == job_id, JobRow.state == "running"
        asked = session.scalar(select(JobRow.cancel_requested).where(*where))
    return None if asked is None else bool(asked)


def change(job_id: int, expected: State, **values: object) -> bool:
    """Set columns of a job that is in the expected state; return whether it was."""
    return _update((JobRow.id == job_id, JobRow.state == expected), values) == 1


def requeue_orphans() -> int:
    """Queue the jobs that a dead worker left running; only for the one process that holds the worker's lock."""
    ended = _update(
        (JobRow.state == "running", JobRow.cancel_requested == 1),
        {"state": "cancelled", "finished": time.time(), "rate": None, "cancel_requested": 0},
    )
    return ended + _update((JobRow.state == "running",), {"state": "queued", "rate": None})


def request_cancel(job_id: int) -> State:
    """Cancel a waiting or paused job, ask a running one to stop; return the state it had. Raises JobError."""
    with queue_database().writing() as session:
        row = session.get(JobRow, job_id)
        if row is None:
            raise JobError(f"There is no job {job_id}.", hint="See `jobs` for those there are.")
        state = cast("State", row.state)
        if state in ("queued", "paused"):
            row.state, row.finished = "cancelled", time.time()
        elif state == "running":
            row.cancel_requested = 1
        return state


def queue_again(job_id: int) -> int:
    """Queue a failed, cancelled or paused job again; where the same work is active already, return that one's id."""
    with queue_database().writing() as session:
        row = session.get(JobRow, job_id)
        if row is None:
            raise JobError(f"There is no job {job_id}.", hint="See `jobs` for those there are.")
        if row.state == "done":
            raise JobError(f"Job {job_id} is done.", hint="Start a new one where something changed.")
        same = JobRow.project == row.project, JobRow.key == row.key, JobRow.state.in_(ACTIVE), JobRow.id != row.id
        other = session.scalars(select(JobRow).where(*same)).first()
        if other is not None:
            return other.id
        if row.state not in ("queued", "running"):
            _queue_again(row)
        return row.id


def _queue_again(row: JobRow) -> None:
    row.state, row.finished, row.cancel_requested, row.crashes, row.crashed_at = "queued", None, 0, 0, 0.0
    row.error_title, row.error_hint = "", ""


def _update(where: tuple[ColumnElement[bool], ...], values: Mapping[str, object]) -> int:
    with queue_database().writing() as session:
        result = session.execute(update(JobRow).where(*where).values(**values))
        return cast("CursorResult[object]", result).rowcount


def _status(row: JobRow) -> JobStatus:
    running = row.state == "running"
    left = (row.total - row.done) / row.rate if running and row.rate and row.total >= row.done else None
    same_boot = running and row.heartbeat_s is not None and row.boot == boot_id()
    age = time.monotonic() - row.heartbeat_s if same_boot and row.heartbeat_s is not None else None
    return JobStatus(
        id=row.id,
        kind=row.kind,
        version=row.version,
        project=Path(row.project),
        state=cast("State", row.state),
        done=row.done,
        total=row.total,
        note=row.note,
        rate=row.rate if running else None,
        seconds_left=left,
        options=cast("dict[str, Option]", row.options),
        fingerprints=cast("dict[str, str]", row.fingerprints),
        log=tuple(row.log.splitlines()),
        error=row.error_title,
        hint=row.error_hint,
        result=cast("dict[str, Option] | None", row.result),
        peak_bytes=row.peak_bytes,
        threads=row.threads,
        attempt=row.attempt,
        halvings=row.halvings,
        crashes=row.crashes,
        crashed_at=row.crashed_at,
        cancel_requested=bool(row.cancel_requested),
        worker_pid=row.worker_pid if running else None,
        heartbeat_age_s=age,
        created=row.created,
        started=row.started,
        finished=row.finished,
    )


def boot_id() -> str:
    """Return a name of this start of the machine: the monotonic clock counts from it and knows no other."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
