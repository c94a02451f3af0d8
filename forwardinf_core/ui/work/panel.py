"""The jobs panel in the sidebar of every page."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import streamlit as st

from forwardinf_core.ui import frame, messages, state, thumbs
from forwardinf_core.ui.components.jobs import jobs
from forwardinf_core.ui.work.lines import lines


def address_of(project_ref: str) -> str:
    """Return where the web server tells of a project's jobs."""
    return f"/work/{thumbs.token_of(project_ref)}"


@st.fragment(key=state.WORK)
def panel(folder: Path, project_ref: str) -> None:
    """Draw the jobs of a project; the browser keeps the panel up to date and comes back only to open a result."""
    with messages.guard():
        shown = [asdict(line) for line in lines(folder)]
        asked = jobs(shown, key=state.JOBS, address=address_of(project_ref))
    if asked is not None and asked.turn != st.session_state.get(state.OPENED_RESULT):
        st.session_state[state.OPENED_RESULT] = asked.turn
        st.switch_page(frame.PAGES / f"{asked.page}.py", query_params=asked.link)
