"""The database's tables. A project's database holds runs (and decisions); the machine's holds the queue of jobs."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Boolean, Float, Index, Integer, MetaData, String, Text, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class ProjectBase(DeclarativeBase):
    """Tables of a project, or of a team's shared database."""

    metadata = MetaData()


class QueueBase(DeclarativeBase):
    """Tables of one machine."""

    metadata = MetaData()


class RunRow(ProjectBase):
    """A finished run. The folder of the run is the truth; the row finds it."""

    __tablename__ = "runs"
    id: Mapped[str] = mapped_column(String(80), primary_key=True)
    project: Mapped[str] = mapped_column(String(1000), primary_key=True)  # folder of the project
    kind: Mapped[str] = mapped_column(String(40))
    key: Mapped[str] = mapped_column(String(64))  # fingerprint of inputs and options
    created: Mapped[float] = mapped_column(Float)  # seconds since 1970, for display
    options: Mapped[dict[str, object]] = mapped_column(JSON)
    summary: Mapped[dict[str, object]] = mapped_column(JSON)


class DecisionRow(ProjectBase):
    """What a person decided about a row, or took back. Rows are added, never changed or removed."""

    __tablename__ = "decisions"
    seq: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)
    project: Mapped[str] = mapped_column(String(1000))  # folder of the project
    audit: Mapped[str] = mapped_column(String(40))  # mislabels | leakage | tracing
    entry: Mapped[str] = mapped_column(String(120))  # id given by whoever recorded it: a log sent twice counts once
    step: Mapped[str] = mapped_column(String(120))  # what one undo takes back: a decision, or all of a bulk action
    split: Mapped[str] = mapped_column(String(20))
    row_id: Mapped[str] = mapped_column(Text)
    action: Mapped[str] = mapped_column(String(20))
    label: Mapped[int | None] = mapped_column(Integer)
    reviewer: Mapped[str] = mapped_column(String(200))
    at: Mapped[float] = mapped_column(Float)  # seconds since 1970
    comment: Mapped[str] = mapped_column(Text)
    score: Mapped[float | None] = mapped_column(Float)  # that the person saw
    run_id: Mapped[str] = mapped_column(String(80))
    undoes: Mapped[str | None] = mapped_column(String(120))  # step that this record takes back
    settles: Mapped[bool] = mapped_column(Boolean)

    __table_args__ = (
        Index("one_entry_once", "project", "audit", "entry", unique=True),
        Index("decisions_in_order", "project", "audit", "seq"),
        {"sqlite_autoincrement": True},
    )


ACTIVE = "state IN ('queued', 'running', 'paused')"


class JobRow(QueueBase):
    """One piece of long work and how far it is. Times ending in _s are on the monotonic clock of ``boot``."""

    __tablename__ = "jobs"
    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    kind: Mapped[str] = mapped_column(String(40))
    version: Mapped[int] = mapped_column(Integer)  # of the job's code and format
    project: Mapped[str] = mapped_column(String(1000))
    key: Mapped[str] = mapped_column(String(64))  # of kind, version, options and fingerprints
    options: Mapped[dict[str, object]] = mapped_column(JSON)
    fingerprints: Mapped[dict[str, object]] = mapped_column(JSON)
    state: Mapped[str] = mapped_column(String(12))  # queued | running | paused | done | failed | cancelled
    done: Mapped[float] = mapped_column(Float, default=0.0)
    total: Mapped[float] = mapped_column(Float, default=0.0)
    note: Mapped[str] = mapped_column(Text, default="")
    rate: Mapped[float | None] = mapped_column(Float)  # units a second
    log: Mapped[str] = mapped_column(Text, default="")  # its last lines
    error_title: Mapped[str] = mapped_column(Text, default="")
    error_hint: Mapped[str] = mapped_column(Text, default="")
    result: Mapped[dict[str, object] | None] = mapped_column(JSON)
    peak_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    threads: Mapped[int | None] = mapped_column(Integer)  # of the first attempt; later ones take the same
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    crashes: Mapped[int] = mapped_column(Integer, default=0)  # in a row, without progress between them
    crashed_at: Mapped[float] = mapped_column(Float, default=0.0)  # furthest progress at a crash
    halvings: Mapped[int] = mapped_column(Integer, default=0)  # of the batch, after the system killed it for memory
    cancel_requested: Mapped[int] = mapped_column(Integer, default=0)
    worker_pid: Mapped[int | None] = mapped_column(Integer)
    heartbeat_s: Mapped[float | None] = mapped_column(Float)
    boot: Mapped[str] = mapped_column(String(40), default="")
    created: Mapped[float] = mapped_column(Float)  # seconds since 1970, for display
    started: Mapped[float | None] = mapped_column(Float)
    finished: Mapped[float | None] = mapped_column(Float)

    __table_args__ = (
        # the same work waits or runs once, whoever asks
        Index("one_active_job", "project", "key", unique=True, sqlite_where=text(ACTIVE)),
        Index("jobs_by_state", "state"),
        {"sqlite_autoincrement": True},
    )
