"""The card of a query: its picture or text, what the model says of it in one sentence, its classes' probabilities."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import streamlit as st

from forwardinf_core.ui import components
from forwardinf_core.ui.components import bars, beside, passage, picture
from forwardinf_core.ui.components.bars import Bar
from forwardinf_core.ui.components.passage import Passage

FOLDER, BARS = Path(__file__).parent, Path(bars.__file__).parent
PICTURE, PASSAGE = Path(picture.__file__).parent, Path(passage.__file__).parent
_CARD = st.components.v2.component(
    "forwardinf_card",
    html="<div class='card'>\n</div>",
    css=beside(PICTURE, "picture.css")
    + beside(PASSAGE, "passage.css")
    + beside(BARS, "bars.css")
    + beside(FOLDER, "card.css"),
    js=beside(PICTURE, "draw.js")
    + beside(PASSAGE, "draw.js")
    + beside(BARS, "draw.js")
    + beside(Path(components.__file__).parent, "early.js")
    + beside(FOLDER, "card.js"),
)


@dataclass(frozen=True, slots=True)
class Words:
    """A piece of a sentence, shown letter by letter."""

    text: str
    weight: Literal["plain", "strong", "quiet", "badge"] = "plain"


@dataclass(frozen=True, slots=True)
class Card:
    """What is shown of a query. ``asked`` tells questions apart; ``notes`` say what was done to an odd picture."""

    asked: str
    src: str
    alt: str
    width: int
    verdict: tuple[Words, ...]
    bars: tuple[Bar, ...]
    notes: tuple[str, ...] = ()
    text: Passage | None = None  # in place of a picture

    def record(self) -> dict[str, object]:
        """Return the card as the browser reads it, from the server's drawing or early."""
        return asdict(self)


def card(shown: Card, *, key: str) -> None:
    """Draw the card."""
    _CARD(key=key, data=shown.record())
