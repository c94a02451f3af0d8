"""What people decided about rows, over the whole history: verdicts, undo and redo, several reviewers.

Records are never changed (``store/decisions.py``); this folds them. A verdict counts while no undo takes it back, an
undo while no redo does. Of a reviewer's verdicts on a row the last that counts is the current one. Over all reviewers
a row's outcome is the last verdict that settles it, else the one on which everybody agrees; "unsure" abstains, and a
row on which verdicts differ has no outcome until somebody settles it.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from forwardinf_core.errors import DataError
from forwardinf_core.store import decisions as kept
from forwardinf_core.store.decisions import Decision
from forwardinf_core.store.places import ProjectFolder
from forwardinf_core.store.runs import AuditedProject

Audits = Literal["mislabels", "leakage", "tracing"]
KEEP, RELABEL, DROP, UNSURE = VERDICTS = ("keep", "relabel", "drop", "unsure")
UNDO, REDO = "undo", "redo"
LONGEST = {"reviewer": 100, "comment": 2000, "row_id": 2000, "entry": 120, "step": 120}

Row = tuple[str, str]
"""Split and id of a row."""


def record(project: AuditedProject, decisions: Sequence[Decision]) -> int:
    """Keep verdicts, undos and redos, all or none; return how many were new.

    A record without ``entry`` gets one; one whose entry is kept already is left as it was, so that a log may be sent
    again. Raises DataError for a record that means nothing, StoreError or DiskFullError where it cannot be kept.
    """
    filled = [_filled(one) for one in decisions]
    for audit in dict.fromkeys(one.audit for one in filled):
        ledger = ledger_of(project, audit).refreshed()
        _check([one for one in filled if one.audit == audit and not ledger.knows(one.entry)], ledger)
    return kept.append(project, filled)


def undo(project: AuditedProject, audit: str, reviewer: str) -> Decision | None:
    """Take back the reviewer's last step that counts, and return the record of it; None where there is none."""
    return _taken(project, audit, reviewer, UNDO)


def redo(project: AuditedProject, audit: str, reviewer: str) -> Decision | None:
    """Take back the reviewer's last undo, unless something was decided since; return the record, or None."""
    return _taken(project, audit, reviewer, REDO)


def current(project: AuditedProject, audit: str, reviewer: str | None = None) -> dict[Row, Decision]:
    """Return the current verdict of a reviewer on every row decided; without one, the outcome over all reviewers."""
    ledger = ledger_of(project, audit).refreshed()
    return ledger.verdicts(reviewer) if reviewer is not None else ledger.outcomes()


def history(project: AuditedProject, audit: str, *, row: Row | None = None) -> list[Decision]:
    """Return every record in the order of recording, or those on one row with what took them back."""
    ledger = ledger_of(project, audit).refreshed()
    return list(ledger.records) if row is None else ledger.of_row(row)


@lru_cache(maxsize=64)
def _ledger(root: Path, audit: str) -> Ledger:
    return Ledger(ProjectFolder(root), audit)


def ledger_of(project: AuditedProject, audit: str) -> Ledger:
    """Return the process's ledger of an audit; ``refreshed`` brings it up to date."""
    return _ledger(project.root, audit)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a row stands among all reviewers: ``outcome`` None with several verdicts is a disagreement."""

    outcome: Decision | None
    verdicts: tuple[Decision, ...]  # the current one of each reviewer, in the order of recording

    @property
    def disagrees(self) -> bool:
        return self.outcome is None and any(one.action != UNSURE for one in self.verdicts)


class Ledger:
    """The records of one audit, folded as they come in: reading on costs what is new, not what is there."""

    def __init__(self, project: AuditedProject, audit: str) -> None:
        self.project, self.audit = project, audit
        self._lock = threading.RLock()
        self._clear()

    def _clear(self) -> None:
        self.records: list[Decision] = []
        self._entries: set[str] = set()
        self._steps: dict[str, list[Decision]] = {}  # verdicts by step
        self._taken_by: dict[str, list[str]] = {}  # step of a verdict → undos; step of an undo → redos
        self._undo_of: dict[str, Decision] = {}  # by the step of the undo
        self._on_row: dict[Row, list[Decision]] = {}
        self._verdicts: dict[str, dict[Row, Decision]] = {}  # by reviewer
        self._independent: dict[str, dict[Row, Decision]] = {}  # by reviewer, without those that settle
        self._settled: dict[Row, Decision] = {}
        self._done: dict[str, list[str]] = {}  # steps by reviewer, the last on top
        self._undone: dict[str, list[str]] = {}  # steps of undos by reviewer, the last on top

    def refreshed(self) -> Ledger:
        """Read what was recorded since, by whomever."""
        with self._lock:
            last = self.records[-1] if self.records else None
            found = kept.read(self.project, self.audit, last.seq - 1 if last else 0)
            if last is not None:
                if found and found[0] == last:
                    found = found[1:]
                else:  # the database was deleted or replaced
                    self._clear()
                    found = kept.read(self.project, self.audit)
            for one in found:
                self._add(one)
        return self

    def knows(self, entry: str) -> bool:
        """Say whether a record with this entry is kept."""
        return entry in self._entries

    def counts(self, step: str) -> bool:
        """Say whether nothing takes a step back."""
        return not any(self.counts(other) for other in self._taken_by.get(step, ()))

    def has_verdicts(self, step: str) -> bool:
        return step in self._steps

    def is_undo(self, step: str) -> bool:
        return step in self._undo_of

    def of_step(self, step: str) -> list[Decision]:
        """Return the verdicts that one step recorded."""
        return list(self._steps.get(step, ()))

    def undone_step(self, undo: str) -> str:
        """Return the step that an undo takes back."""
        return self._undo_of[undo].undoes or ""

    def before(self, verdict: Decision) -> tuple[str, int | None] | None:
        """Return what the reviewer's verdict on the row was before this one, as action and label."""
        found = None
        for one in self._on_row.get((verdict.split, verdict.row_id), ()):
            if one.seq < verdict.seq and one.reviewer == verdict.reviewer and self.counts(one.step):
                found = (one.action, one.label)
        return found

    def of_row(self, row: Row) -> list[Decision]:
        """Return the verdicts on a row and what took them back, in the order of recording."""
        steps = {one.step for one in self._on_row.get(row, ())}
        steps |= {other for step in tuple(steps) for other in self._taken_by.get(step, ())}
        wanted = (
            one for one in self.records if (one.undoes in steps if one.undoes else (one.split, one.row_id) == row)
        )
        return list(wanted)

    def reviewers(self) -> tuple[str, ...]:
        """Return everybody with a verdict that counts, in the order of their first."""
        return tuple(name for name, found in self._verdicts.items() if found)

    def verdicts(self, reviewer: str) -> dict[Row, Decision]:
        """Return a reviewer's current verdicts by row."""
        with self._lock:
            return dict(self._verdicts.get(reviewer, {}))

    def independent(self, reviewer: str) -> dict[Row, Decision]:
        """Return a reviewer's current verdicts by row that were made without settling a disagreement."""
        with self._lock:
            return dict(self._independent.get(reviewer, {}))

    def rows(self) -> list[Row]:
        """Return the rows on which a verdict counts."""
        with self._lock:
            return list(dict.fromkeys(row for found in self._verdicts.values() for row in found))

    def standing(self, row: Row) -> Standing:
        """Return where a row stands among all reviewers."""
        with self._lock:
            found = sorted((own[row] for own in self._verdicts.values() if row in own), key=lambda one: one.seq)
            if row in self._settled:
                return Standing(self._settled[row], tuple(found))
        sure = [one for one in found if one.action != UNSURE]
        if not sure:
            return Standing(found[-1] if found else None, tuple(found))
        same = len({meaning(one) for one in sure}) == 1
        return Standing(sure[-1] if same else None, tuple(found))

    def outcomes(self) -> dict[Row, Decision]:
        """Return the outcome over all reviewers by row; a row on which they disagree has none."""
        found = {row: self.standing(row).outcome for row in self.rows()}
        return {row: one for row, one in found.items() if one is not None}

    def disagreements(self) -> list[Row]:
        """Return the rows on which verdicts differ and nobody settled it."""
        return [row for row in self.rows() if self.standing(row).disagrees]

    def done(self, reviewer: str) -> list[str]:
        """Return the reviewer's steps that an undo would take back, the next one last."""
        with self._lock:
            return list(self._done.get(reviewer, ()))

    def undone(self, reviewer: str) -> list[str]:
        """Return the reviewer's undos that a redo would take back, the next one last."""
        with self._lock:
            return list(self._undone.get(reviewer, ()))

    def _add(self, one: Decision) -> None:
        self.records.append(one)
        self._entries.add(one.entry)
        done = self._done.setdefault(one.reviewer, [])
        undone = self._undone.setdefault(one.reviewer, [])
        if one.action in VERDICTS:
            self._steps.setdefault(one.step, []).append(one)
            self._on_row.setdefault((one.split, one.row_id), []).append(one)
            if not done or done[-1] != one.step:
                done.append(one.step)
            undone.clear()
            self._fold([(one.split, one.row_id)])
            return
        assert one.undoes is not None
        self._taken_by.setdefault(one.undoes, []).append(one.step)
        step = one.undoes
        if one.action == UNDO:
            self._undo_of[one.step] = one
            if step in done:
                done.remove(step)
            undone.append(one.step)
        else:
            if step in undone:
                undone.remove(step)
            undoing = self._undo_of.get(step)
            step = undoing.undoes if undoing is not None and undoing.undoes else step
            done.append(step)
        self._fold({(verdict.split, verdict.row_id) for verdict in self._steps.get(step, ())})

    def _fold(self, rows: Iterable[Row]) -> None:
        for row in rows:
            counted = [one for one in self._on_row[row] if self.counts(one.step)]
            own = {one.reviewer: one for one in counted}
            independent = {one.reviewer: one for one in counted if not one.settles}
            for reviewer in {one.reviewer for one in self._on_row[row]}:
                _put(self._verdicts.setdefault(reviewer, {}), row, own.get(reviewer))
                _put(self._independent.setdefault(reviewer, {}), row, independent.get(reviewer))
            settling = [one for one in counted if one.settles]
            _put(self._settled, row, settling[-1] if settling else None)


def meaning(one: Decision) -> str:
    """Return what a verdict would do to its row, in a word that is the same for the same effect."""
    return f"{RELABEL} {one.label}" if one.action == RELABEL else one.action


def _put(found: dict[Row, Decision], row: Row, one: Decision | None) -> None:
    if one is None:
        found.pop(row, None)
    else:
        found[row] = one


def _taken(project: AuditedProject, audit: str, reviewer: str, action: str) -> Decision | None:
    ledger = ledger_of(project, audit).refreshed()
    steps = ledger.done(reviewer) if action == UNDO else ledger.undone(reviewer)
    if not steps:
        return None
    target = steps[-1] if action == UNDO else ledger.undone_step(steps[-1])
    rows = ledger.of_step(target)
    one = rows[0] if len(rows) == 1 else None
    made = _filled(
        Decision(
            audit,
            one.split if one else rows[0].split,
            one.row_id if one else "",
            action,
            reviewer=reviewer,
            undoes=steps[-1],
            run_id=rows[0].run_id,
        )
    )
    kept.append(project, [made])
    ledger.refreshed()
    return made


def _filled(one: Decision) -> Decision:
    entry = one.entry or secrets.token_hex(12)
    reviewer = " ".join(one.reviewer.split())
    return replace(one, entry=entry, step=one.step or entry, at=one.at or time.time(), reviewer=reviewer)


def _check(new: Sequence[Decision], ledger: Ledger) -> None:
    """Raise DataError for the first record that means nothing."""
    verdicts = {one.step for one in new if one.action in VERDICTS}
    undos = {one.step for one in new if one.action == UNDO}
    for one in new:
        where = f"The decision on row {one.row_id[:80]!r}"
        for name, longest in LONGEST.items():
            if len(getattr(one, name)) > longest:
                raise DataError(f"{where} has a {name} of more than {longest} characters.", hint="Shorten it.")
        if not one.reviewer:
            raise DataError("A decision needs the name of who made it.", hint="Enter your name first.")
        if one.action not in (*VERDICTS, UNDO, REDO):
            raise DataError(f"{where} is {one.action[:40]!r}.", hint=f"Expected one of: {', '.join(VERDICTS)}.")
        if (one.action == RELABEL) != (one.label is not None):
            raise DataError(f"{where} is {one.action!r} with label {one.label}.", hint="Only relabel takes a label.")
        if one.action in VERDICTS and not one.row_id:
            raise DataError("A decision without a row cannot be kept.", hint="Name the row by its id.")
        known = {
            UNDO: lambda step: step in verdicts or ledger.has_verdicts(step),
            REDO: lambda step: step in undos or ledger.is_undo(step),
        }.get(one.action)
        if (known is None) != (one.undoes is None) or (known and one.undoes and not known(one.undoes)):
            raise DataError(
                f"There is nothing called {str(one.undoes)[:80]!r} to {one.action}.",
                hint="Reload the page: it shows what was recorded.",
            )
