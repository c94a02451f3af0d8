"""The histogram of an answer's scores: linear near 0, logarithmic further out, with a mark for each row shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from forwardinf_core.ui import state
from forwardinf_core.ui.answers import Bins, bin_scores, tone_of
from forwardinf_core.ui.components import spread
from forwardinf_core.ui.components.spread import Column, Place, Spread
from forwardinf_core.ui.wording import counted, signed

if TYPE_CHECKING:
    from forwardinf_core.influence.scores import ScoreTable

HEIGHT = 120


class Answer(Protocol):
    """What is drawn of: an attribution, or the trace of a picture."""

    @property
    def scores(self) -> ScoreTable: ...


def histogram(answer: Answer, asked: str, *, shown: int) -> tuple[float, float] | None:
    """Draw the histogram; return the scores from and to of the range chosen, or None."""
    bins = bin_scores(answer.scores.score)
    chosen = spread.spread(spread_of(answer, asked, shown), key=state.HISTOGRAM, height=HEIGHT)
    if chosen is None:
        return None
    score, (first, last) = answer.scores.score, chosen
    # The outermost columns hold the extremes, whatever rounding did to their edges.
    low = float(score.min()) if first == 0 else float(bins.low[first])
    high = float(score.max()) if last == len(bins.high) else float(bins.high[last - 1])
    return low, high


def spread_of(answer: Answer, asked: str, shown: int) -> Spread:
    """Return the histogram of all scores; ``shown`` rows of both ends are marked under it."""
    bins = bin_scores(answer.scores.score)
    ends = np.concatenate([answer.scores.top(shown), answer.scores.bottom(shown)])
    return Spread(
        asked=asked,
        label="Histogram of the scores of all training rows",
        columns=tuple(
            Column(
                float(height),
                tone_of(float(low + high) / 2),
                f"{counted(int(rows), 'row')} from {signed(float(low))} to {signed(float(high))}",
            )
            for height, low, high, rows in zip(spread.heights(bins.count), bins.low, bins.high, bins.count, strict=True)
        ),
        words=spread.apart([Place(bins.place(value), signed(value)) for value in axis_values(bins)]),
        marks=tuple(Place(bins.place(score), tone=tone_of(score)) for score in answer.scores.score[ends].tolist()),
    )


def axis_values(bins: Bins) -> list[float]:
    """Return round values for the axis: 0 and powers of ten on both sides."""
    reach = float(max(abs(bins.low[0]), abs(bins.high[-1])))
    powers = range(int(np.ceil(np.log10(bins.constant))), int(np.floor(np.log10(max(reach, bins.constant)))) + 1)
    outward = [10.0**power for power in powers]
    return [*(-value for value in reversed(outward)), 0.0, *outward]
