"""A histogram over which a range can be dragged, or chosen with the arrow keys: whole columns of equal width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from forwardinf_core.ui import components
from forwardinf_core.ui.components import beside, on_its_page

FOLDER = Path(__file__).parent
_SPREAD = st.components.v2.component(
    "forwardinf_spread",
    html=beside(FOLDER, "spread.html"),
    css=beside(FOLDER, "spread.css"),
    js=beside(Path(components.__file__).parent, "early.js") + beside(FOLDER, "spread.js"),
)

Tone = Literal["helped", "hurt", "neutral", "accent"]
Range = tuple[int, int]
"""First column and the one after the last."""

NARROWEST = 0.07  # share of the width between two words under the axis


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its height and the accented part of it as shares, 0 to 1, and what is said where the mouse rests."""

    height: float
    tone: Tone
    hint: str
    inner: float = 0.0


@dataclass(frozen=True, slots=True)
class Place:
    """A word under the axis, or a mark of one row, at a share of the width."""

    at: float
    text: str = ""
    tone: Tone = "neutral"


@dataclass(frozen=True, slots=True)
class Spread:
    """The columns from left to right. ``asked`` tells histograms apart: a range belongs to one of them."""

    asked: str
    label: str  # what a screen reader is told
    columns: tuple[Column, ...]
    words: tuple[Place, ...] = ()
    marks: tuple[Place, ...] = ()
    title: str = ""  # under the axis

    def record(self) -> dict[str, object]:
        """Return the histogram as the browser reads it, from the server's drawing or early."""
        return asdict(self)


def heights(counts: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float64]:
    """Return heights of columns, 0 to 1, that let one row be seen beside thousands: logarithms of the counts."""
    tall = np.log1p(np.asarray(counts, np.float64))
    return np.asarray(tall / (tall.max(initial=0.0) or 1.0))


def apart(words: Sequence[Place]) -> tuple[Place, ...]:
    """Return the words that have room beside each other, from the left."""
    kept: list[Place] = []
    for word in words:
        if not kept or word.at - kept[-1].at >= NARROWEST:
            kept.append(word)
    return tuple(kept)


def columns_in(edges: NDArray[np.float64], low: float | None, high: float | None) -> Range | None:
    """Return the columns between two values, ``edges`` (n + 1,) being where they begin and end; None without values."""
    if low is None or high is None:
        return None
    first = int(np.searchsorted(edges, low, side="right")) - 1
    last = int(np.searchsorted(edges, high, side="left"))
    first = min(max(first, 0), len(edges) - 2)
    return first, min(max(last, first + 1), len(edges) - 1)


def spread(
    shown: Spread,
    *,
    key: str,
    height: int,
    chosen: Range | None = None,
    on_choose: Callable[[Range | None], None] | None = None,
) -> Range | None:
    """Draw the histogram and return the range chosen in it; ``on_choose`` is called where it has changed.

    ``chosen`` is the range to show where a caller keeps it elsewhere, in the link for example.
    """

    def told() -> dict[str, object]:
        return (st.session_state.get(key) or {}).get("range") or {}

    last = told()

    @on_its_page
    def changed() -> None:
        if on_choose is not None:
            on_choose(_range_of(told(), shown))

    own = chosen if on_choose is not None else _range_of(last, shown)
    _SPREAD(
        key=key,
        data={**shown.record(), "chosen": own, "height": height, "turn": int(str(last.get("turn", 0)))},
        default={"range": {}},
        on_range_change=changed,
    )
    return own


def _range_of(told: dict[str, object], shown: Spread) -> Range | None:
    first, last = told.get("first"), told.get("last")
    if told.get("asked") != shown.asked or not isinstance(first, int) or not isinstance(last, int):
        return None
    return (first, last) if 0 <= first < last <= len(shown.columns) else None
