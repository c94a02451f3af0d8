"""The progress of one job in its place; asks the web server while it lasts and the screen only when it has ended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import streamlit as st

from forwardinf_core.ui import components
from forwardinf_core.ui.components import beside, on_its_page

FOLDER = Path(__file__).parent
_WATCH = st.components.v2.component(
    "forwardinf_watch",
    html="<div class='watch' role='status'>\n</div>",
    css=beside(FOLDER, "watch.css"),
    js=beside(Path(components.__file__).parent, "asking.js") + beside(FOLDER, "watch.js"),
)


def watch(address: str, job: str, *, key: str, words: str, slim: bool, on_end: Callable[[], None]) -> None:
    """Draw how far a job is; ``on_end`` is called once when it is at work no longer, however it ended.

    ``address`` is where the project's jobs are served; ``words`` stand before the share where it is ``slim``.
    """

    @on_its_page
    def changed() -> None:
        if _ended(key) == job:
            on_end()

    _WATCH(
        key=key,
        data={"address": address, "job": job, "words": words, "slim": slim, "after_ms": 0},
        default={"ended": ""},
        on_ended_change=changed,
    )


def after(delay_ms: int, name: str, *, key: str, on_end: Callable[[], None]) -> None:
    """Draw nothing; ``on_end`` is called when a person has stayed for a while with what ``name`` stands for."""

    @on_its_page
    def changed() -> None:
        if _ended(key) == name:
            on_end()

    _WATCH(
        key=key,
        data={"address": "", "job": name, "words": "", "slim": True, "after_ms": delay_ms},
        default={"ended": ""},
        on_ended_change=changed,
    )


def _ended(key: str) -> str:
    """Return what has ended, without the moment that tells its ends apart."""
    said: str = (st.session_state.get(key) or {}).get("ended", "")
    return said.rpartition(" ")[0]
