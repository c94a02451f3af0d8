"""One text, whole, in a box that scrolls; the part a model does not read is faint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from forwardinf_core.ui.components import beside

FOLDER = Path(__file__).parent
_PASSAGE = st.components.v2.component(
    "forwardinf_passage",
    html="<div class='passage'>\n</div>",
    css=beside(FOLDER, "passage.css"),
    js=beside(FOLDER, "draw.js") + beside(FOLDER, "passage.js"),
)


@dataclass(frozen=True, slots=True)
class Passage:
    """A text as it is shown, letter by letter: what the model reads of it, the rest, and how much is not shown."""

    read: str
    rest: str = ""
    note: str = ""


def passage(shown: Passage, *, key: str, label: str) -> None:
    """Draw the text; ``label`` is what a screen reader is told it is."""
    _PASSAGE(key=key, data={"read": shown.read, "rest": shown.rest, "note": shown.note, "label": label})
