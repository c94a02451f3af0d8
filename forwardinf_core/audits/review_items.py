"""One row under review with everything beside it: likely classes, reasons, nearest rows, copies, what others said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from forwardinf_core.audits.decisions import Ledger
from forwardinf_core.audits.mislabels.records import Suspects
from forwardinf_core.audits.review import SPLIT, Review
from forwardinf_core.store.decisions import Decision

NEIGHBOURS = 14  # two rows of small pictures
COPIES = 6
CHOICES = 9  # one for each digit key
UNDOABLE = 200  # steps before this visit that the screen can take back one by one


@dataclass(frozen=True, slots=True)
class Item:
    """A row as the reviewer sees it. ``choices`` are classes by falling likelihood with their shares."""

    position: int
    id: str
    label: int
    suggested: int
    rank: int  # 1 = most suspicious
    chance: float  # estimated chance that the label is wrong
    choices: tuple[tuple[int, float], ...]
    reasons: tuple[str, ...]
    neighbours: tuple[int, ...]  # positions, nearest first
    copies: tuple[int, ...]  # positions of rows with the very same content
    against: tuple[int, ...]  # positions among the trusted rows
    verdict: tuple[str, int | None] | None  # the reviewer's own, with the new label
    others: tuple[tuple[str, str, int | None], ...]  # who, verdict, new label; empty in blind mode


@dataclass(frozen=True, slots=True)
class Step:
    """A step that an undo takes back: rows with their verdict now and before. No rows = too many to list."""

    step: str
    rows: tuple[tuple[str, tuple[str, int | None], tuple[str, int | None] | None], ...]
    undo: str = ""  # the step of the undo, for one that a redo brings back


class Items:
    """Makes items of a review. ``digests`` are the training rows' (n, 32)."""

    def __init__(self, review: Review, digests: np.ndarray[tuple[int, int], np.dtype[np.uint8]]) -> None:
        self.review = review
        self._digests = digests

    @property
    def _suspects(self) -> Suspects:
        return self.review.suspects

    @cached_property
    def _copies(self) -> dict[int, tuple[int, ...]]:
        """Positions of the other rows with the same content, for rows that have any."""
        keys = np.ascontiguousarray(self._digests).view("V32").reshape(-1)
        _, group, counts = np.unique(keys, return_inverse=True, return_counts=True)
        found: dict[int, list[int]] = {}
        for position in np.flatnonzero(counts[group.reshape(-1)] > 1).tolist():
            found.setdefault(int(group.reshape(-1)[position]), []).append(position)
        return {
            position: tuple(other for other in same if other != position)[:COPIES]
            for same in found.values()
            for position in same
        }

    def of(self, positions: Sequence[int], ledger: Ledger, reviewer: str, *, blind: bool) -> list[Item]:
        """Return the items at these positions, in order."""
        own = ledger.verdicts(reviewer)
        return [self._item(position, ledger, own, reviewer, blind) for position in positions]

    def _item(
        self, position: int, ledger: Ledger, own: dict[tuple[str, str], Decision], reviewer: str, blind: bool
    ) -> Item:
        found = self._suspects
        row_id = found.ids[position]
        mine = own.get((SPLIT, row_id))
        standing = () if blind else ledger.standing((SPLIT, row_id)).verdicts
        return Item(
            position=position,
            id=row_id,
            label=int(found.label[position]),
            suggested=int(found.suggested[position]),
            rank=int(self.review.rank[position]) + 1,
            chance=float(found.wrong_chance[position]),
            choices=self._choices(position),
            reasons=found.reasons(position),
            neighbours=tuple(found.neighbours(position)[:NEIGHBOURS].tolist()),
            copies=self._copies.get(position, ()),
            against=tuple(found.against(position).tolist()),
            verdict=None if mine is None else (mine.action, mine.label),
            others=tuple((one.reviewer, one.action, one.label) for one in standing if one.reviewer != reviewer),
        )

    def _choices(self, position: int) -> tuple[tuple[int, float], ...]:
        """Return classes by falling likelihood; the label and the suggestion are always among them."""
        found = self._suspects
        classes = found.likely[position].tolist()
        shares = dict(zip(classes, found.likely_share[position].tolist(), strict=True))
        must = dict.fromkeys([int(found.label[position]), int(found.suggested[position])])
        order = [*classes, *(code for code in must if code not in shares)]
        room = [code for code in order if code not in must][: CHOICES - len(must)]
        kept = [code for code in order if code in must or code in room]
        return tuple((int(code), float(shares.get(code, 0.0))) for code in kept)


def steps_done(ledger: Ledger, reviewer: str) -> tuple[Step, ...]:
    """Return the reviewer's last steps that an undo would take back, the next one last."""
    steps = ledger.done(reviewer)[-UNDOABLE:]
    return tuple(Step(step, _changes(ledger, step)) for step in steps)


def steps_undone(ledger: Ledger, reviewer: str) -> tuple[Step, ...]:
    """Return the reviewer's steps that a redo would bring back, the next one last."""
    found = []
    for undo in ledger.undone(reviewer)[-UNDOABLE:]:
        step = ledger.undone_step(undo)
        found.append(Step(step, _changes(ledger, step), undo))
    return tuple(found)


def _changes(
    ledger: Ledger, step: str
) -> tuple[tuple[str, tuple[str, int | None], tuple[str, int | None] | None], ...]:
    made = ledger.of_step(step)
    if len(made) > UNDOABLE:
        return ()
    return tuple((one.row_id, (one.action, one.label), ledger.before(one)) for one in made)
