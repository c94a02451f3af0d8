"""One ranking out of several signals: the mean of their ranks, with weights that were fixed on other data.

Ranks, because losses, shares of neighbours and margins have no common scale. The weights were chosen on labels that no
reported figure uses (docs/mislabels.md), and every run records them. One thing is decided on the rows at hand, without
their truth: where errors planted in a copy show that the model's features or the rows' content are far behind, the
weaker side does not vote. A model that has learnt its rows by heart finds planted errors too easily, for it has learnt
the true label of each; the content then keeps its vote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

PATCHES, WORDS, HELD_OUT = "patches", "words", "held_out"
CONTENT = (PATCHES, WORDS)  # the sides that no label has taught; a project has one of them
SIDES: Mapping[str, tuple[str, ...]] = {
    PATCHES: (PATCHES,),
    WORDS: (WORDS,),
    HELD_OUT: (HELD_OUT, "mirrored_halves", "mirrored"),
}
"""Signals by the left-out model that stands for them on a copy with planted errors."""

WEIGHTS: Mapping[str, float] = {
    PATCHES: 1.0,
    WORDS: 3.0,
    HELD_OUT: 0.5,
    "mirrored_halves": 0.25,
    "mirrored": 0.5,
    "networks": 2.0,
    "retrained": 0.5,
}
BEHIND = 0.05  # of AUROC on planted errors, from which a side does not vote

Signals = Mapping[str, NDArray[np.float32]]


def ranks(signal: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return ranks between 0 and 1, equal values sharing theirs; higher = more suspicious."""
    return np.asarray(rankdata(signal, method="average"), np.float64) / len(signal)


def combined(signals: Signals, weights: Mapping[str, float]) -> NDArray[np.float32]:
    """Return the weighted mean of the ranks of the signals that there are, (n,) between 0 and 1."""
    used = {name: weight for name, weight in weights.items() if name in signals}
    total = sum(weight * ranks(signals[name]) for name, weight in used.items()) / sum(used.values())
    return np.asarray(total, np.float32)


def voting(copies: Sequence[tuple[Signals, NDArray[np.bool_]]], *, by_heart: bool = False) -> tuple[str, ...]:
    """Return the sides that vote: each copy with planted errors is given as its signals and which rows were planted.

    ``by_heart``: the model has learnt its rows by heart.
    """
    quality = {
        side: float(np.mean([roc_auc_score(planted, signals[side]) for signals, planted in copies]))
        for side in SIDES
        if side in copies[0][0]
    }
    best = max(quality.values())
    return tuple(side for side, value in quality.items() if value >= best - BEHIND or (by_heart and side in CONTENT))


def weights_of(sides: Sequence[str]) -> dict[str, float]:
    """Return the weights of the default ranking where these sides vote."""
    silent = {name for side, names in SIDES.items() if side not in sides for name in names}
    return {name: weight for name, weight in WEIGHTS.items() if name not in silent}


def suspicion(signals: Signals, sides: Sequence[str]) -> NDArray[np.float32]:
    """Return minus the log of the mean probability that the sides' left-out models give the label, (n,).

    Unlike ranks it means the same on the rows and on a copy of them that holds more errors.
    """
    mean = np.mean([np.exp(-signals[side].astype(np.float64)) for side in sides], axis=0)
    return np.asarray(-np.log(np.maximum(mean, 1e-12)), np.float32)
