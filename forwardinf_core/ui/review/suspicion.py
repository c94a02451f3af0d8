"""How suspicious all rows are: a histogram whose range filters the review."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forwardinf_core.audits.review import Filter
from forwardinf_core.ui import address, state
from forwardinf_core.ui.components import spread
from forwardinf_core.ui.components.spread import Column, Place, Range, Spread
from forwardinf_core.ui.wording import counted

BINS = 40
HEIGHT = 84
WORDS = 5


def suspicion_chart(run_id: str, score: NDArray[np.float32], chance: NDArray[np.float32], chosen: Filter) -> None:
    """Draw how suspicious all rows are; a range keeps the rows in it, by the link."""
    edges = edges_of(score)

    def choose(found: Range | None) -> None:
        low, high = ("", "") if found is None else (f"{edges[found[0]]:.9g}", f"{edges[found[1]]:.9g}")
        address.go(low=low, high=high, row="")

    spread.spread(
        spread_of(run_id, edges, score, chance),
        key=state.SUSPICION,
        height=HEIGHT,
        chosen=spread.columns_in(edges, chosen.low, chosen.high),
        on_choose=choose,
    )


def edges_of(score: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the ends of the columns, ascending."""
    low, high = float(score.min()), float(score.max())
    return np.linspace(low, high, BINS + 1) if low < high else np.linspace(low - 0.5, high + 0.5, BINS + 1)


def spread_of(
    run_id: str, edges: NDArray[np.float64], score: NDArray[np.float32], chance: NDArray[np.float32]
) -> Spread:
    """Return the histogram: all rows in grey, the wrong labels expected among them in the accent colour."""
    rows, _ = np.histogram(score, edges)
    wrong, _ = np.histogram(score, edges, weights=chance)
    scale = np.log1p(float(rows.max(initial=0))) or 1.0
    inner = np.minimum(np.log1p(wrong) / scale, spread.heights(rows))
    return Spread(
        asked=run_id,
        label="Suspicion of all training rows",
        columns=tuple(
            Column(
                float(height),
                "neutral",
                f"{counted(int(count), 'row')}, {bad:.0f} wrong labels expected",
                float(part / height) if height else 0.0,
            )
            for height, count, bad, part in zip(spread.heights(rows), rows, wrong, inner, strict=True)
        ),
        words=tuple(
            Place(at, f"{edges[0] + at * (edges[-1] - edges[0]):.2g}") for at in np.linspace(0.04, 0.96, WORDS).tolist()
        ),
    )
