"""What people decided about rows, kept for ever: records are added, never changed; taking back is a new record.

Each record carries an ``entry``, an id given by whoever made it, so that a log sent twice is kept once. Writers take
turns, so that records become visible in the order of their numbers and a reader who knows number n misses none after.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice

from sqlalchemy import func, insert, select, text

from forwardinf_core.store.database import project_database
from forwardinf_core.store.runs import AuditedProject
from forwardinf_core.store.tables import DecisionRow

WRITERS_LOCK = 726_353_302  # any number; the same for every process of a team's PostgreSQL
AT_ONCE = 500  # entries looked up by one statement, below the limits of both databases


@dataclass(frozen=True, slots=True)
class Decision:
    """One record: a verdict on a row (keep, relabel, drop, unsure), or an undo or redo of an earlier step.

    ``step`` is what one undo takes back, a single decision or everything that one bulk action recorded. ``undoes`` is
    the step that an undo takes back, or the undo that a redo takes back. A decision that ``settles`` was made in view
    of what others decided, and stands for all of them.
    """

    audit: str  # mislabels | leakage | tracing
    split: str  # train | test
    row_id: str  # empty where an undo or redo concerns several rows
    action: str
    label: int | None = None  # class a relabelled row gets
    reviewer: str = ""
    at: float = 0.0  # seconds since 1970
    comment: str = ""
    score: float | None = None  # that the person saw
    run_id: str = ""
    undoes: str | None = None
    entry: str = ""
    step: str = ""
    settles: bool = False
    seq: int = 0  # number in the order of recording; 0 before


def append(project: AuditedProject, decisions: Sequence[Decision]) -> int:
    """Keep the records that are not kept yet, all or none, and return how many those were.

    When this returns they survive a kill and a power loss. Raises StoreError or DiskFullError; nothing is kept then.
    """
    assert all(one.entry and one.step for one in decisions)
    own = str(project.root)
    new = 0
    with project_database(project.audit_dir).writing() as session:
        if session.get_bind().dialect.name == "postgresql":
            session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": WRITERS_LOCK})
        for group in _groups(decisions):
            asked = select(DecisionRow.audit, DecisionRow.entry).where(
                DecisionRow.project == own, DecisionRow.entry.in_([one.entry for one in group])
            )
            known = {(audit, entry) for audit, entry in session.execute(asked)}
            missing = {(one.audit, one.entry): one for one in group if (one.audit, one.entry) not in known}
            if missing:
                rows = [_values(one) | {"project": own} for one in missing.values()]
                session.execute(insert(DecisionRow), rows)
                new += len(rows)
    return new


def read(project: AuditedProject, audit: str, after: int = 0) -> list[Decision]:
    """Return the records of an audit with a number above ``after``, in the order of recording."""
    if not _may_hold_any(project):
        return []
    asked = (
        select(*(getattr(DecisionRow, name) for name in FIELDS))
        .where(DecisionRow.project == str(project.root), DecisionRow.audit == audit, DecisionRow.seq > after)
        .order_by(DecisionRow.seq)
    )
    with project_database(project.audit_dir).reading() as session:
        return [Decision(*row) for row in session.execute(asked)]


def count(project: AuditedProject, audit: str) -> int:
    """Return how many records an audit has."""
    if not _may_hold_any(project):
        return 0
    asked = select(func.count()).where(DecisionRow.project == str(project.root), DecisionRow.audit == audit)
    with project_database(project.audit_dir).reading() as session:
        return session.scalar(asked) or 0


FIELDS = tuple(Decision.__dataclass_fields__)


def _groups(decisions: Sequence[Decision]) -> Iterator[list[Decision]]:
    waiting = iter(decisions)
    while group := list(islice(waiting, AT_ONCE)):
        yield group


def _values(one: Decision) -> dict[str, object]:
    values = asdict(one)
    del values["seq"]  # the database numbers them
    return values


def _may_hold_any(project: AuditedProject) -> bool:
    return "FORWARDINF_DATABASE_URL" in os.environ or (project.audit_dir / "audit.db").is_file()
