"""Components where Streamlit has none: one folder each, a typed wrapper with its script and style beside it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path

import streamlit as st

from forwardinf_core.ui import state


def beside(folder: Path, name: str) -> str:
    """Return the text of a component's script or style."""
    return (folder / name).read_text(encoding="utf-8")


def on_its_page(changed: Callable[[], None]) -> Callable[[], None]:
    """Make a callback silent once another page has been drawn.

    Until the browser hears that a new page is finished, it goes on sending what the components of the old one hold, and
    Streamlit takes that for a change.
    """
    drawn_on = st.session_state.get(state.DRAWN_PAGE)

    @wraps(changed)
    def on_page() -> None:
        if st.session_state.get(state.DRAWN_PAGE) == drawn_on:
            changed()

    return on_page
