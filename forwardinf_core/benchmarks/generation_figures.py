r"""Figures of ``bench generation``: ranks, recall, SSIM; and the intervals that ``bench tracing`` gives too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from forwardinf_core.errors import ShapeError

Floats = NDArray[np.float64]
RESAMPLES = 2_000
Z = 1.959964  # of a 95% interval
SSIM_WINDOW = 7  # pixels; the usual 11 would not fit into pictures of 8
SSIM_K1, SSIM_K2 = 0.01, 0.03  # Wang et al. 2004


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its 95% interval."""

    mean: float
    low: float
    high: float


def rank_of(scores: Floats, position: int) -> int:
    """Return the rank of a row, 1 = first; rows with an equal score are counted before it."""
    return int((scores >= scores[position]).sum())


def recall_at(scores: Floats, wanted: Sequence[int], k: int) -> float:
    """Return which share of the wanted rows is among the first k, of as many as fit there; ties by position."""
    first = np.argsort(-scores, kind="stable")[:k]
    return len(set(first.tolist()) & set(wanted)) / min(k, len(wanted))


def share_interval(found: int, of: int) -> Interval:
    """Return a share with its interval after Wilson (1927)."""
    share, scale = found / of, 1 + Z**2 / of
    middle = (share + Z**2 / (2 * of)) / scale
    reach = Z / scale * sqrt(share * (1 - share) / of + Z**2 / (4 * of**2))
    return Interval(share, max(middle - reach, 0.0), min(middle + reach, 1.0))


def mean_interval(values: Floats, seed: int = 0) -> Interval:
    """Return the mean of values (n,) with the interval of drawing them anew, with replacement."""
    drawn = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.quantile(values[drawn].mean(1), (0.025, 0.975))
    return Interval(float(values.mean()), float(low), float(high))


def squared_error(one: Floats, other: Floats) -> float:
    """Return the mean squared difference of two pictures with values from 0 to 1."""
    return float(np.square(one - other).mean())


def ssim(one: Floats, other: Floats) -> float:
    r"""Return the structural similarity of two grey pictures (h, w) with values from 0 to 1; 1 = the same picture.

    Wang, Bovik, Sheikh, Simoncelli 2004, with equal weights in square windows of 7 pixels, the mean over all windows
    that fit:  (2 μₓμᵧ + C₁)(2 σₓᵧ + C₂) / ((μₓ² + μᵧ² + C₁)(σₓ² + σᵧ² + C₂)).
    """
    if one.shape != other.shape or min(one.shape) < SSIM_WINDOW:
        raise ShapeError(f"Pictures of {one.shape} and {other.shape} cannot be compared.", hint="Give two of one size.")
    x, y = (
        np.lib.stride_tricks.sliding_window_view(picture, (SSIM_WINDOW, SSIM_WINDOW)).reshape(-1, SSIM_WINDOW**2)
        for picture in (one, other)
    )
    mean_x, mean_y = x.mean(1), y.mean(1)
    covariance = (x * y).mean(1) - mean_x * mean_y
    c1, c2 = SSIM_K1**2, SSIM_K2**2
    structure = (2 * covariance + c2) / (x.var(1) + y.var(1) + c2)
    return float(((2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1) * structure).mean())
