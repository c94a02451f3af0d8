"""A line of tokens: what the model read and said, with its probability under each, some of them chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import streamlit as st

from forwardinf_core.ui.components import beside, on_its_page

FOLDER = Path(__file__).parent
_TOKENS = st.components.v2.component(
    "forwardinf_tokens",
    html="<div class='tokens' role='listbox' aria-multiselectable='true'>\n</div>",
    css=beside(FOLDER, "tokens.css"),
    js=beside(FOLDER, "tokens.js"),
)


@dataclass(frozen=True, slots=True)
class TokenTile:
    """One token. All text is shown letter by letter, never as markup."""

    text: str
    note: str = ""  # under the token, such as its probability
    tone: Literal["said", "read"] = "read"
    can_pick: bool = True


def tokens(
    tiles: Sequence[TokenTile],
    *,
    key: str,
    label: str,
    picked: Sequence[int],
    on_pick: Callable[[list[int]], None],
) -> None:
    """Draw the tokens; a click picks one, dragging picks a range, Shift or Ctrl adds. ``picked`` are shown as chosen.

    ``on_pick`` is called with the positions chosen, before the screen is drawn again.
    """

    @on_its_page
    def changed() -> None:
        state = (st.session_state.get(key) or {}).get("picked") or {}
        places = state.get("places")
        if isinstance(places, list):
            on_pick([int(place) for place in places if isinstance(place, int | float)])

    _TOKENS(
        key=key,
        data={"tokens": [asdict(tile) for tile in tiles], "label": label, "picked": list(picked)},
        default={"picked": {}},
        on_picked_change=changed,
    )
