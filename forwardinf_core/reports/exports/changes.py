"""What the decisions change: which rows get another label, which are dropped, and which decisions change nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from forwardinf_core.audits.decisions import DROP, RELABEL, UNSURE, Ledger
from forwardinf_core.errors import DataError
from forwardinf_core.store.decisions import Decision

SPLIT = "train"


class LabelledRows(Protocol):
    """What is read of the training rows here."""

    @property
    def ids(self) -> Sequence[str]: ...
    @property
    def labels(self) -> NDArray[np.int64]: ...


@dataclass(frozen=True)
class Changes:
    """Changes of the training rows by position, and what is left alone with the reason.

    ``disputed`` are ids of rows on which reviewers disagree: nobody's verdict is applied until it is settled. ``gone``
    are ids with a decision but no row. ``decided`` holds the decision behind every row, by position.
    """

    relabel: Mapping[int, int]
    drop: frozenset[int]
    kept: int
    unsure: int
    disputed: tuple[str, ...]
    gone: tuple[str, ...]
    decided: Mapping[int, Decision]

    def __bool__(self) -> bool:
        return bool(self.relabel or self.drop)


def changes_of(rows: LabelledRows, ledger: Ledger, reviewer: str | None = None) -> Changes:
    """Return what the outcomes over all reviewers change, or one reviewer's verdicts.

    Raises DataError for a reviewer who decided nothing.
    """
    if reviewer is not None and reviewer not in ledger.reviewers():
        known = ", ".join(ledger.reviewers()) or "nobody yet"
        raise DataError(f"There are no decisions by {reviewer!r}.", hint=f"Decisions were made by: {known}.")
    decisions = ledger.outcomes() if reviewer is None else ledger.verdicts(reviewer)
    disputed = ledger.disagreements() if reviewer is None else []
    positions = {row_id: position for position, row_id in enumerate(rows.ids)}
    relabel: dict[int, int] = {}
    drop: set[int] = set()
    decided: dict[int, Decision] = {}
    gone = []
    for (split, row_id), one in decisions.items():
        if split != SPLIT:
            continue
        position = positions.get(row_id)
        if position is None:
            gone.append(row_id)
            continue
        decided[position] = one
        if one.action == DROP:
            drop.add(position)
        elif one.action == RELABEL and one.label is not None and one.label != rows.labels[position]:
            relabel[position] = one.label
    unsure = sum(one.action == UNSURE for one in decided.values())
    return Changes(
        relabel,
        frozenset(drop),
        kept=len(decided) - len(relabel) - len(drop) - unsure,
        unsure=unsure,
        disputed=tuple(row_id for split, row_id in disputed if split == SPLIT),
        gone=tuple(gone),
        decided=decided,
    )


@dataclass(frozen=True, slots=True)
class Difference:
    """What a dry run shows: counts by pair of classes, and one line for each changed row."""

    rows_before: int
    rows_after: int
    relabelled: int
    dropped: int
    kept: int
    unsure: int
    disputed: int
    gone: int
    pairs: tuple[tuple[str, str, int], ...]  # from, to, rows
    lines: tuple[tuple[str, str, str], ...]  # id, label, new label or "(dropped)"


def difference(rows: LabelledRows, changes: Changes, classes: Sequence[str]) -> Difference:
    """Return what the changes would do to the rows, without doing it."""

    def name(code: int) -> str:
        return classes[code] if 0 <= code < len(classes) else "(none)"

    pairs = Counter((int(rows.labels[at]), code) for at, code in changes.relabel.items())
    touched = sorted([*changes.relabel, *changes.drop])
    return Difference(
        rows_before=len(rows.ids),
        rows_after=len(rows.ids) - len(changes.drop),
        relabelled=len(changes.relabel),
        dropped=len(changes.drop),
        kept=changes.kept,
        unsure=changes.unsure,
        disputed=len(changes.disputed),
        gone=len(changes.gone),
        pairs=tuple((name(own), name(new), count) for (own, new), count in pairs.most_common()),
        lines=tuple(
            (
                rows.ids[at],
                name(int(rows.labels[at])),
                "(dropped)" if at in changes.drop else name(changes.relabel[at]),
            )
            for at in touched
        ),
    )
