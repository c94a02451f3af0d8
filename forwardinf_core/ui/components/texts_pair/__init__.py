"""Two texts side by side, words that only one of them has marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from forwardinf_core.ui.components import beside

FOLDER = Path(__file__).parent
_PAIR = st.components.v2.component(
    "forwardinf_texts_pair",
    html="<div class='texts'>\n</div>",
    css=beside(FOLDER, "texts_pair.css"),
    js=beside(FOLDER, "texts_pair.js"),
)


@dataclass(frozen=True, slots=True)
class Side:
    """One text: what is written over it, and its runs of words, each with whether the other text lacks it."""

    title: str
    runs: Sequence[tuple[str, bool]]


def texts_pair(left: Side, right: Side, note: str, *, key: str) -> None:
    """Draw the two texts and a line under them. All text is shown letter by letter, never as markup."""
    _PAIR(
        key=key,
        data={
            "sides": [{"title": side.title, "runs": [list(run) for run in side.runs]} for side in (left, right)],
            "note": note,
        },
    )
