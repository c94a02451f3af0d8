"""A gallery of rows, pictures or beginnings of texts: one of them selected, arrow keys, the same in light and dark."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import streamlit as st

from forwardinf_core.ui.components import beside, on_its_page

FOLDER = Path(__file__).parent
_GALLERY = st.components.v2.component(
    "forwardinf_gallery",
    html="<div class='gallery' role='listbox' tabindex='-1'>\n</div>",
    css=beside(FOLDER, "gallery.css"),
    js=beside(FOLDER, "listbox.js") + beside(FOLDER, "gallery.js"),
)

Tone = Literal["helped", "hurt", "neutral"]


@dataclass(frozen=True, slots=True)
class Tile:
    """One row as the gallery shows it. All text is shown letter by letter, never as markup."""

    id: str
    src: str  # address of the picture
    title: str
    text: str = ""  # shown in place of a picture
    note: str = ""
    tone: Tone = "neutral"
    strength: float = -1.0  # 0 to 1, drawn as a line under the picture; below 0: no line
    badge: str = ""  # a word or two on the picture
    hint: str = ""  # what the pointer and a screen reader are told


def gallery(
    tiles: Sequence[Tile],
    *,
    key: str,
    label: str,
    selected: str = "",
    tile_width: int = 62,
    follow: bool = True,
    early: str = "",
    on_select: Callable[[str], None] | None = None,
) -> str:
    """Draw the tiles and return the id chosen last in this gallery ("" = none yet).

    ``selected`` is the id to show as chosen. With ``follow`` the arrow keys choose; without, they only move and Enter
    chooses. ``early`` is where the answer to a choice is served; the board and the card show it before the server draws
    the screen again. ``on_select`` is called with the new id before that.
    """
    state = st.session_state.get(key) or {}
    last = state.get("chosen") or {}

    @on_its_page
    def changed() -> None:
        chosen = (st.session_state.get(key) or {}).get("chosen") or {}
        if on_select is not None and isinstance(chosen.get("id"), str):
            on_select(chosen["id"])

    result = _GALLERY(
        key=key,
        data={
            "tiles": [asdict(tile) for tile in tiles],
            "label": label,
            "selected": selected,
            "turn": int(last.get("turn", 0)),
            "width": tile_width,
            "follow": follow,
            "early": early,
        },
        default={"chosen": {}},
        on_chosen_change=changed,
    )
    chosen = (result.chosen or {}).get("id", "")
    return chosen if any(tile.id == chosen for tile in tiles) else ""
