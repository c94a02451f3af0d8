"""The histogram of memorization with a range that can be chosen in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from forwardinf_core.ui import address, state
from forwardinf_core.ui.components import spread
from forwardinf_core.ui.components.spread import Column, Place, Range, Spread
from forwardinf_core.ui.wording import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from forwardinf_core.audits.memorization.choosing import Bars, Chosen

HEIGHT = 104
WORDS = 7


def histogram(run_id: str, bars: Bars, chosen: Chosen) -> None:
    """Draw it; a range keeps the rows in it, by the link."""
    edges = np.append(bars.low, bars.high[-1])

    def choose(found: Range | None) -> None:
        low, high = ("", "") if found is None else (f"{edges[found[0]]:.9g}", f"{edges[found[1]]:.9g}")
        address.go(low=low, high=high, row="", page="")

    spread.spread(
        spread_of(run_id, bars, edges, chosen.label),
        key=state.MEM_HISTOGRAM,
        height=HEIGHT,
        chosen=spread.columns_in(edges, chosen.low, chosen.high),
        on_choose=choose,
    )


def spread_of(run_id: str, bars: Bars, edges: NDArray[np.float64], label: int | None) -> Spread:
    """Return the histogram."""
    return Spread(
        asked=f"{run_id}-{label}",
        label="Histogram of the memorization of the training rows",
        columns=tuple(
            Column(float(height), "accent", f"{counted(int(rows), 'row')} from {low:.2f} to {high:.2f}")
            for height, low, high, rows in zip(spread.heights(bars.rows), bars.low, bars.high, bars.rows, strict=True)
        ),
        words=tuple(
            Place(at, f"{edges[0] + at * (edges[-1] - edges[0]):.2g}") for at in np.linspace(0.03, 0.97, WORDS).tolist()
        ),
        title="estimated memorization, powers of ten"
        if bars.is_log
        else "how much its own presence raises its probability",
    )
