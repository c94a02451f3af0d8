"""The review deck: rows to decide on, one at a time or as a grid, with one key each; and the receipt it listens to.

The browser owns the cursor and an append-only log, which it sends as state until the receipt says that it was kept. A
page passes a window of the queue; the deck asks for the next one before it gets there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from forwardinf_core.ui.components import beside

FOLDER = Path(__file__).parent
SCRIPTS = ("journal.js", "card.js", "grid.js", "deck.js")  # one module: the last one exports
_DECK = st.components.v2.component(
    "forwardinf_deck",
    html=beside(FOLDER, "deck.html"),
    css=beside(FOLDER, "deck.css"),
    js="\n".join(beside(FOLDER, name) for name in SCRIPTS),
)
_RECEIPT = st.components.v2.component(
    "forwardinf_receipt", html="<span hidden>\n</span>", js=beside(FOLDER, "receipt.js")
)

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]
"""What a component can be handed."""


@dataclass(frozen=True, slots=True)
class Window:
    """What the deck is handed. The same window must be the same object of data, so that it is sent once.

    ``version`` names the queue; with a new one the deck starts over at ``cursor``. ``start`` is the place in the queue
    of the first of ``items``; ``skip`` leaves out rows decided meanwhile; ``store`` names the project to the browser.
    """

    version: str
    total: int
    start: int
    block: int
    cursor: int
    mode: str
    items: Sequence[Mapping[str, Json]]
    names: Sequence[str]
    thumbs: str
    pixels: int  # longer side of the rows' pictures: small ones keep sharp pixels
    is_text: bool
    store: str
    reviewer: str
    named: bool  # the reviewer said their name on this visit
    done: Sequence[Mapping[str, Json]]
    undone: Sequence[Mapping[str, Json]]
    skip: bool
    settles: bool

    def data(self) -> dict[str, Json]:
        """Return the window as the script reads it."""
        names = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "is_text"}
        return {**names, "isText": self.is_text}


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the server kept and how far the review is. ``fault`` is why nothing could be kept."""

    tab: str
    turn: int
    suspects: int
    decided: int
    remaining: float
    fault: str = ""
    refused: tuple[str, ...] = ()


def deck(
    data: Mapping[str, Json],
    *,
    key: str,
    on_log: Callable[[], None],
    on_place: Callable[[], None],
    on_again: Callable[[], None],
    on_name: Callable[[], None],
) -> None:
    """Draw the deck. The callbacks read the new state with ``state_of``."""
    _DECK(
        key=key,
        data=data,
        default={"log": {}, "at": 0, "again": 0, "name": ""},
        on_log_change=on_log,
        on_at_change=on_place,
        on_again_change=on_again,
        on_name_change=on_name,
    )


def state_of(key: str, name: str) -> object:
    """Return what the deck reported last: "log", "at", "again" or "name"."""
    return (st.session_state.get(key) or {}).get(name)


def receipt(found: Receipt, *, key: str) -> None:
    """Tell the deck what was kept."""
    values = {name: getattr(found, name) for name in found.__dataclass_fields__}
    _RECEIPT(key=key, data={**values, "refused": list(found.refused)})
