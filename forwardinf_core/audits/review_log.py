"""The log that a reviewer's browser keeps, turned into records: what is new is kept, what is known is left alone.

The browser sends its log again until it hears that it was kept, so that nothing depends on one message arriving. A
record that means nothing must not hold up the others: it is refused with a sentence, by itself.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forwardinf_core.audits import decisions
from forwardinf_core.audits.decisions import RELABEL, VERDICTS
from forwardinf_core.audits.review import AUDIT, SPLIT, Review
from forwardinf_core.errors import DataError
from forwardinf_core.store.decisions import Decision
from forwardinf_core.store.runs import AuditedProject


@dataclass(frozen=True, slots=True)
class Received:
    """What became of a log: how many records were new, and a sentence for each that was refused."""

    new: int
    refused: tuple[str, ...]


def receive(project: AuditedProject, review: Review, log: Sequence[object], reviewer: str) -> Received:
    """Keep a browser's log. Raises StoreError where nothing could be kept; the browser then sends it again."""
    made: list[Decision] = []
    refused: list[str] = []
    for entry in log:
        try:
            made.append(decision_of(entry, review, reviewer))
        except DataError as error:
            refused.append(error.title)
    try:
        return Received(decisions.record(project, made), tuple(refused))
    except DataError:
        new = 0
        for one in made:  # one by one, so that a refused record takes no other with it
            try:
                new += decisions.record(project, [one])
            except DataError as error:
                refused.append(error.title)
        return Received(new, tuple(refused))


def decision_of(entry: object, review: Review, reviewer: str) -> Decision:
    """Return the record that an entry of the log means. Raises DataError; nothing in it is taken on trust."""
    if not isinstance(entry, Mapping):
        raise DataError("An entry of the log is no record.", hint="Reload the page.")
    action, row_id, label = str(entry.get("a")), str(entry.get("r") or ""), entry.get("l")
    undoes, own_id = entry.get("u"), str(entry.get("e") or "")
    if not own_id:
        raise DataError("An entry of the log has no id.", hint="Reload the page.")
    position = review.positions.get(row_id)
    if action in VERDICTS and position is None:
        raise DataError(f"There is no training row {row_id[:80]!r}.", hint="Reload the page.")
    n_classes = len(review.suspects.classes)
    if action == RELABEL and (not isinstance(label, int) or not 0 <= label < n_classes):
        raise DataError(f"There is no class {label!r} for row {row_id[:80]!r}.", hint=f"There are {n_classes}.")
    return Decision(
        AUDIT,
        SPLIT,
        row_id,
        action,
        label=int(label) if action == RELABEL and isinstance(label, int) else None,
        reviewer=reviewer,
        comment=str(entry.get("c") or ""),
        score=None if position is None else float(review.suspects.score[position]),
        run_id=review.suspects.run_id,
        undoes=None if undoes is None else str(undoes),
        entry=own_id,
        step=str(entry.get("s") or own_id),
        settles=entry.get("z") is True,
    )


def decide_all(
    project: AuditedProject, review: Review, positions: NDArray[np.int64], action: str, reviewer: str, comment: str = ""
) -> int:
    """Give many rows the same verdict as one step, which one undo takes back; return how many records that makes.

    RELABEL gives each row its own suggested label; rows whose suggestion is their label are kept.
    """
    step = secrets.token_hex(12)
    suspects = review.suspects
    made = []
    for position in positions.tolist():
        changes = action == RELABEL and suspects.suggested[position] != suspects.label[position]
        made.append(
            Decision(
                AUDIT,
                SPLIT,
                suspects.ids[position],
                action if action != RELABEL or changes else decisions.KEEP,
                label=int(suspects.suggested[position]) if changes else None,
                reviewer=reviewer,
                comment=comment,
                score=float(suspects.score[position]),
                run_id=suspects.run_id,
                entry=f"{step}.{position}",
                step=step,
            )
        )
    return decisions.record(project, made)
