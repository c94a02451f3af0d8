"""What the leakage audit says, a record a test row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forwardinf_core.datasets.rows import Content

EXACT, NEAR, CONTENT, NONE = "exact copy", "near copy", "same content", "none"
VERDICTS = (EXACT, NEAR, CONTENT, NONE)
VERDICT_WORDS: dict[Content, dict[str, str]] = {
    "image": {
        EXACT: "The same picture, pixel for pixel.",
        NEAR: "The same picture with changes hardly seen.",
        CONTENT: "The same scene with other post-processing: cut, colours, compression or mirrored.",
        NONE: "No training row looks like a copy.",
    },
    "text": {
        EXACT: "The same text, word for word; case, punctuation and spaces aside.",
        NEAR: "The same text but for a few letters or words.",
        CONTENT: "The same text otherwise written: words left out, added, replaced or in another order.",
        NONE: "No training row looks like a copy.",
    },
}
SAME_LABEL, OTHER_LABEL, NO_LABEL = "same label", "conflicting label", "no label"


@dataclass(frozen=True, slots=True)
class Pair:
    """A query and the training row most like a copy of it.

    ``score`` is the probability that it is one. ``signals``: likeness by signal, −1 to 1. ``stands_out``: the same,
    less that of the query's tenth nearest row, a family of copies counted as one. ``influence`` is that of the training
    row on the query through the head, positive = helped; ``influence_cosine`` the same divided by both rows' own; NaN
    where there is no head.
    """

    query: str
    train: int
    score: float
    verdict: str
    is_mirrored: bool
    label: int
    train_label: int
    signals: Mapping[str, float]
    stands_out: Mapping[str, float]
    influence: float
    influence_cosine: float

    @property
    def labels(self) -> str:
        """Whether both rows carry the same label."""
        if self.label < 0 or self.train_label < 0:
            return NO_LABEL
        return SAME_LABEL if self.label == self.train_label else OTHER_LABEL


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that are copies of each other, over both splits, by position; at least two."""

    train: tuple[int, ...]
    test: tuple[int, ...]
    score: float  # the weakest confidence that holds it together
    has_conflict: bool  # its rows carry different labels

    @property
    def size(self) -> int:
        return len(self.train) + len(self.test)


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Test accuracy over some rows: how many, how many right, and the 95% interval (Wilson); NaN for no rows."""

    rows: int
    right: int
    share: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Leakage:
    """A finished audit. ``pairs`` has one record a test row, in the order of the test rows."""

    run_id: str
    pairs: tuple[Pair, ...]
    groups: tuple[Group, ...]
    prior: float  # estimated share of test rows that have a copy
    check: Mapping[str, object]  # what the confidence was worth on planted copies it was not learned on
    alone: Mapping[str, float]  # top-1 of each signal alone on the same
    notes: tuple[str, ...]
    seconds: Mapping[str, float]

    @property
    def scores(self) -> NDArray[np.float64]:
        """The confidence of every test row."""
        return np.asarray([pair.score for pair in self.pairs])

    def counts(self) -> dict[str, int]:
        """Return how many test rows have each verdict."""
        return {verdict: sum(pair.verdict == verdict for pair in self.pairs) for verdict in VERDICTS}

    def leaked(self) -> NDArray[np.int64]:
        """Return the positions of the test rows that have a copy, the surest first."""
        found = [number for number, pair in enumerate(self.pairs) if pair.verdict != NONE]
        return np.asarray(sorted(found, key=lambda number: -self.pairs[number].score), dtype=np.int64)
