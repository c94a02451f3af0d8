"""The rows under review: a search's suspects with the decisions on them, filtered, ordered and counted.

Everything here is arrays over all training rows, so that tens of thousands stay quick; what one row looks like in
detail is in ``review_items``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from forwardinf_core.audits.decisions import DROP, KEEP, RELABEL, UNSURE, Ledger
from forwardinf_core.audits.mislabels.records import Suspects
from forwardinf_core.store.decisions import Decision

AUDIT, SPLIT = "mislabels", "train"
SUSPECT_CHANCE = 0.05  # a row with a lower chance of a wrong label is not worth a look before all others are done
FEWEST_SUSPECTS = 20  # so that there is something to look at where nothing stands out

State = Literal["open", "decided", "keep", "relabel", "drop", "unsure", "disagree", "all"]
STATES: tuple[State, ...] = get_args(State)
CODES = {KEEP: 1, RELABEL: 2, DROP: 3, UNSURE: 4}
"""Verdicts as numbers in arrays; 0 = none."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which rows to go through. Empty parts ask for nothing. ``whole`` takes all rows, not the suspects alone."""

    state: State = "open"
    label: int | None = None
    suggested: int | None = None
    low: float | None = None  # suspicion, from and to
    high: float | None = None
    reviewer: str = ""  # rows that this person has decided
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a reviewer is among the suspects. ``remaining`` is the number of wrong labels still to be expected."""

    suspects: int
    decided: int
    kept: int
    relabelled: int
    dropped: int
    unsure: int
    remaining: float


@dataclass(frozen=True, slots=True)
class Cell:
    """Suspects of one label with one suggestion."""

    label: int
    suggested: int
    rows: int
    open: int


class Review:
    """A search for wrong labels as a queue of rows. Positions are those of the training rows."""

    def __init__(self, suspects: Suspects) -> None:
        self.suspects = suspects

    def __len__(self) -> int:
        return len(self.suspects.ids)

    @cached_property
    def ranking(self) -> NDArray[np.int64]:
        """Positions by falling suspicion."""
        return self.suspects.ranking.astype(np.int64)

    @cached_property
    def rank(self) -> NDArray[np.int64]:
        """Place of each row in the ranking, 0 = most suspicious."""
        found = np.empty(len(self), np.int64)
        found[self.ranking] = np.arange(len(self))
        return found

    @cached_property
    def positions(self) -> dict[str, int]:
        """Position of each row by its id."""
        return {row_id: position for position, row_id in enumerate(self.suspects.ids)}

    @cached_property
    def n_suspects(self) -> int:
        """How many rows, from the top of the ranking, are worth a look."""
        likely = np.flatnonzero(self.suspects.wrong_chance[self.ranking] >= SUSPECT_CHANCE)
        last = int(likely[-1]) + 1 if len(likely) else 0
        return min(len(self), max(last, FEWEST_SUSPECTS))

    def verdicts(self, ledger: Ledger, reviewer: str) -> NDArray[np.int8]:
        """Return the reviewer's verdict on every row as a number of CODES, (n,), 0 = none."""
        return self._codes(ledger.verdicts(reviewer).values())

    def queue(self, chosen: Filter, ledger: Ledger, reviewer: str) -> NDArray[np.int64]:
        """Return the positions of the rows that a filter leaves, most suspicious first."""
        found = self.suspects
        keep = np.ones(len(self), np.bool_)
        if chosen.label is not None:
            keep &= found.label == chosen.label
        if chosen.suggested is not None:
            keep &= found.suggested == chosen.suggested
        if chosen.low is not None:
            keep &= found.score >= np.float32(chosen.low)
        if chosen.high is not None:
            keep &= found.score <= np.float32(chosen.high)
        if chosen.reviewer:
            keep &= self.verdicts(ledger, chosen.reviewer) > 0
        if chosen.state == "disagree":
            keep &= self._among(row_id for split, row_id in ledger.disagreements() if split == SPLIT)
        elif chosen.state != "all":
            own = self.verdicts(ledger, reviewer)
            keep &= {"open": own == 0, "decided": own > 0}.get(chosen.state, own == CODES.get(chosen.state, -1))
        if not chosen.whole and chosen.state in ("open", "all"):  # what was decided is shown wherever it ranks
            keep &= self.rank < self.n_suspects
        return self.ranking[keep[self.ranking]]

    def progress(self, ledger: Ledger, reviewer: str) -> Progress:
        """Return how far the reviewer is. Rows that anybody settled no longer count as possibly wrong."""
        own = self.verdicts(ledger, reviewer)
        among = own[self.ranking[: self.n_suspects]]
        counts = np.bincount(own, minlength=5)
        settled = (own > 0) & (own != CODES[UNSURE])
        return Progress(
            suspects=self.n_suspects,
            decided=int((among > 0).sum()),
            kept=int(counts[CODES[KEEP]]),
            relabelled=int(counts[CODES[RELABEL]]),
            dropped=int(counts[CODES[DROP]]),
            unsure=int(counts[CODES[UNSURE]]),
            remaining=float(self.suspects.wrong_chance[~settled].sum()),
        )

    def confusion(self, ledger: Ledger, reviewer: str) -> list[Cell]:
        """Return the pairs of label and suggestion among the suspects, largest first."""
        top = self.ranking[: self.n_suspects]
        is_open = self.verdicts(ledger, reviewer)[top] == 0
        pairs = np.stack([self.suspects.label[top], self.suspects.suggested[top]], 1)
        unique, places, counts = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
        left = np.bincount(places.reshape(-1), weights=is_open, minlength=len(unique))
        cells = [
            Cell(int(label), int(suggested), int(rows), int(rest))
            for (label, suggested), rows, rest in zip(unique.tolist(), counts, left, strict=True)
            if label != suggested
        ]
        return sorted(cells, key=lambda cell: (-cell.rows, cell.label, cell.suggested))

    def gone(self, ledger: Ledger) -> list[Decision]:
        """Return the outcomes on rows that the training set no longer has."""
        known = self.positions
        return [one for (split, row), one in ledger.outcomes().items() if split == SPLIT and row not in known]

    def _codes(self, decisions: Iterable[Decision]) -> NDArray[np.int8]:
        codes = np.zeros(len(self), np.int8)
        known = self.positions
        for one in decisions:
            position = known.get(one.row_id) if one.split == SPLIT else None
            if position is not None:
                codes[position] = CODES[one.action]
        return codes

    def _among(self, row_ids: Iterable[str]) -> NDArray[np.bool_]:
        found = np.zeros(len(self), np.bool_)
        found[[self.positions[row_id] for row_id in row_ids if row_id in self.positions]] = True
        return found
