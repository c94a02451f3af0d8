"""A list of texts with the words that moved most marked, and where each text stands in every ranking."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import streamlit as st

from forwardinf_core.ui.components import beside, on_its_page
from forwardinf_core.ui.components.gallery import Tone

FOLDER = Path(__file__).parent
_PASSAGES = st.components.v2.component(
    "forwardinf_passages",
    html="<div class='passages' role='listbox'>\n</div>",
    css=beside(FOLDER, "passages.css"),
    js=beside(FOLDER, "passages.js"),
)


@dataclass(frozen=True, slots=True)
class Run:
    """A stretch of a text. ``strength`` from −1 (hurt most) to 1 (helped most)."""

    text: str
    strength: float = 0.0


@dataclass(frozen=True, slots=True)
class Passage:
    """One text as the list shows it. All text is shown letter by letter, never as markup."""

    id: str
    runs: tuple[Run, ...]
    effect: str  # in words, such as "helped, top 0.1%"
    tone: Tone
    facts: tuple[tuple[str, str], ...]  # name and value of each other ranking
    badge: str = ""  # what is known of it
    badge_tone: Tone = "neutral"


def passages(
    rows: Sequence[Passage],
    *,
    key: str,
    label: str,
    selected: str = "",
    on_select: Callable[[str], None],
) -> None:
    """Draw the texts below each other; ``on_select`` is called with the id of the one clicked or entered."""

    @on_its_page
    def changed() -> None:
        chosen = (st.session_state.get(key) or {}).get("chosen") or {}
        if isinstance(chosen.get("id"), str):
            on_select(chosen["id"])

    _PASSAGES(
        key=key,
        data={"rows": [asdict(row) for row in rows], "label": label, "selected": selected},
        default={"chosen": {}},
        on_chosen_change=changed,
    )
