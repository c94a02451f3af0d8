"""The button that asks for a second query to compare with."""

from __future__ import annotations

import streamlit as st

from forwardinf_core.ui import state


def compare_choice() -> None:
    """Draw the button; while it waits, the next row chosen becomes the second query."""
    waiting = bool(st.session_state.get(state.PICK_FOR_COMPARISON))

    def toggled() -> None:
        if waiting:
            st.session_state.pop(state.PICK_FOR_COMPARISON, None)
        else:
            st.session_state[state.PICK_FOR_COMPARISON] = "waiting"

    st.button(
        "Cancel comparing" if waiting else "Compare",
        key=state.COMPARE,
        icon=":material/close:" if waiting else ":material/compare_arrows:",
        on_click=toggled,
        width="stretch",
    )
    if waiting:
        st.caption("Choose the second query below.")
