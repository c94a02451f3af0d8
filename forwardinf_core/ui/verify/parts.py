"""The parts of the Verify screen and which of them the link asks for."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from forwardinf_core.ui import address, state

TITLES = {
    "removal": "Does this answer hold?",
    "canaries": "Canaries and controls",
    "hypothesis": "Hypothesis",
    "lds": "Fidelity",
}
PART = "part"


def part_choice(parts: Sequence[str]) -> str:
    """Draw the choice of the part; it is kept in the link."""
    named = address.link().get(PART, "")
    st.session_state[state.VERIFY_PART] = named if named in parts else parts[0]
    chosen = st.segmented_control(
        "Part",
        parts,
        format_func=TITLES.__getitem__,
        key=state.VERIFY_PART,
        required=True,
        label_visibility="collapsed",
        on_change=lambda: address.go(part=st.session_state[state.VERIFY_PART]),
    )
    return str(chosen)
