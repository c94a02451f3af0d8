"""The board: the rows that helped beside those that hurt, drawn early where the browser has fetched the answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import streamlit as st

from forwardinf_core.ui import components
from forwardinf_core.ui.components import beside, gallery, on_its_page
from forwardinf_core.ui.components.gallery import Tile, Tone

FOLDER, GALLERY = Path(__file__).parent, Path(gallery.__file__).parent
_BOARD = st.components.v2.component(
    "forwardinf_board",
    html="<div class='board'>\n</div>",
    css=beside(GALLERY, "gallery.css") + beside(FOLDER, "board.css"),
    js=beside(GALLERY, "listbox.js")
    + beside(Path(components.__file__).parent, "early.js")
    + beside(FOLDER, "board.js"),
)


@dataclass(frozen=True, slots=True)
class Side:
    """One gallery with its heading. ``before``, ``subject`` and ``after`` make the sentence under it."""

    label: str  # what a screen reader is told
    tone: Tone
    heading: str
    before: str
    subject: str
    after: str
    tiles: tuple[Tile, ...]
    empty: str  # said where there are no tiles


@dataclass(frozen=True, slots=True)
class Board:
    """The sides, for one question. ``asked`` tells questions apart; ``selected`` is the id of the open row."""

    asked: str
    selected: str
    sides: tuple[Side, ...]

    def record(self) -> dict[str, object]:
        """Return the board as the browser reads it, from the server's drawing or early."""
        return asdict(self)


def board(shown: Board, *, key: str, on_select: Callable[[str], None]) -> None:
    """Draw the board; ``on_select`` is called with the id of the row chosen in any gallery of it."""
    last = (st.session_state.get(key) or {}).get("chosen") or {}

    @on_its_page
    def changed() -> None:
        chosen = (st.session_state.get(key) or {}).get("chosen") or {}
        if isinstance(chosen.get("id"), str):
            on_select(chosen["id"])

    _BOARD(
        key=key,
        data={**shown.record(), "turn": int(last.get("turn", 0))},
        default={"chosen": {}},
        on_chosen_change=changed,
    )
