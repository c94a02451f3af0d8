"""One ranking out of several signals: the mean of their ranks, with weights that were fixed on other data.

Ranks, because losses, shares of neighbours and margins have no common scale. The weights were chosen on rows and
labels that no reported figure uses (docs/mislabels.md), and every run records them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

WEIGHTS: Mapping[str, float] = {"held_out": 2.0, "neighbours": 1.0, "loss": 1.0}


def ranks(signal: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return ranks between 0 and 1, equal values sharing theirs; higher = more suspicious."""
    return np.asarray(rankdata(signal, method="average"), np.float64) / len(signal)


def combined(signals: Mapping[str, NDArray[np.float32]], weights: Mapping[str, float]) -> NDArray[np.float32]:
    """Return the weighted mean of the ranks of the signals that there are, (n,) between 0 and 1."""
    used = {name: weight for name, weight in weights.items() if name in signals}
    total = sum(weight * ranks(signals[name]) for name, weight in used.items()) / sum(used.values())
    return np.asarray(total, np.float32)
