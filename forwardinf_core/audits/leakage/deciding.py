"""Decisions on pairs: drop the test row, drop the training row, or keep both; kept in the store of all decisions.

A pair's state is read off its rows: a dropped test row first, then a dropped training row, then a kept test row.
"""

from __future__ import annotations

import csv
import io
import secrets
from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from forwardinf_core.audits import decisions
from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.decisions import DROP, KEEP, Row
from forwardinf_core.audits.leakage.records import Leakage, Pair
from forwardinf_core.audits.queries import TEST
from forwardinf_core.reports.exports.sheets import harmless
from forwardinf_core.store.decisions import Decision

AUDIT = "leakage"
Choice = Literal["drop-test", "drop-train", "keep"]
CHOICES: tuple[Choice, ...] = ("drop-test", "drop-train", "keep")
CHOICE_WORDS: dict[Choice, str] = {
    "drop-test": "dropped from test",
    "drop-train": "dropped from training",
    "keep": "both kept",
}
COLUMNS = ("split", "id", "action", "reviewer", "at", "score", "run_id")


def current(audit: Audit) -> dict[Row, Decision]:
    """Return the outcome over all reviewers on every row that somebody decided."""
    return decisions.current(audit.project, AUDIT)


def choice_of(audit: Audit, pair: Pair, decided: Mapping[Row, Decision]) -> Choice | None:
    """Return what was decided on a pair, or None."""
    test = decided.get(("test", pair.query.removeprefix(TEST)))
    train = decided.get(("train", audit.train_ids[pair.train]))
    if test is not None and test.action == DROP:
        return "drop-test"
    if train is not None and train.action == DROP:
        return "drop-train"
    return "keep" if test is not None and test.action == KEEP else None


def decide(audit: Audit, found: Leakage, pair: Pair, choice: Choice, reviewer: str) -> None:
    """Record a choice as one step, which one undo takes back. Raises DataError, StoreError."""
    decided = current(audit)
    test, train = ("test", pair.query.removeprefix(TEST)), ("train", audit.train_ids[pair.train])
    actions: dict[Row, str] = {test: DROP if choice == "drop-test" else KEEP}
    if choice == "drop-train":
        actions[train] = DROP
    elif train in decided and decided[train].action == DROP:
        actions[train] = KEEP
    step = secrets.token_hex(12)
    decisions.record(
        audit.project,
        [
            Decision(AUDIT, split, row_id, action, reviewer=reviewer, score=pair.score, run_id=found.run_id, step=step)
            for (split, row_id), action in actions.items()
        ],
    )


def undo(audit: Audit, reviewer: str) -> bool:
    """Take back the reviewer's last choice; return whether there was one."""
    return decisions.undo(audit.project, AUDIT, reviewer) is not None


def redo(audit: Audit, reviewer: str) -> bool:
    """Take back the reviewer's last undo; return whether there was one."""
    return decisions.redo(audit.project, AUDIT, reviewer) is not None


def kept_test_rows(audit: Audit, decided: Mapping[Row, Decision]) -> NDArray[np.int64]:
    """Return the positions of the test rows that nobody dropped."""
    dropped = {row_id for (split, row_id), one in decided.items() if split == "test" and one.action == DROP}
    kept = [position for position, row_id in enumerate(audit.test_ids) if row_id not in dropped]
    return np.asarray(kept, dtype=np.int64)


def sheet(decided: Mapping[Row, Decision]) -> str:
    """Return the decisions as CSV, one line a row; texts that a spreadsheet would run stay texts."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for (split, row_id), one in sorted(decided.items()):
        values = (split, row_id, one.action, one.reviewer, one.at, one.score, one.run_id)
        writer.writerow(["" if value is None else harmless(value) for value in values])
    return out.getvalue()
