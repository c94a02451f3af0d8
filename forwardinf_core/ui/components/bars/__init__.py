"""Slim horizontal bars: a name, a share of the whole, a word about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import streamlit as st

from forwardinf_core.ui.components import beside

FOLDER = Path(__file__).parent
_BARS = st.components.v2.component(
    "forwardinf_bars",
    html="<div class='bars' role='list'>\n</div>",
    css=beside(FOLDER, "bars.css"),
    js=beside(FOLDER, "draw.js") + beside(FOLDER, "bars.js"),
)


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar. ``start`` and ``end`` are shares of the full width, 0 to 1; text is never markup."""

    name: str
    start: float
    end: float
    value: str
    mark: str = ""  # a word beside the name
    tone: Literal["accent", "quiet", "neutral", "helped", "hurt"] = "quiet"


def bars(rows: Sequence[Bar], *, key: str, label: str, zero: float | None = None) -> None:
    """Draw the bars below each other; ``zero`` draws a line at that share of the width."""
    _BARS(key=key, data={"bars": [asdict(row) for row in rows], "label": label, "zero": zero})
