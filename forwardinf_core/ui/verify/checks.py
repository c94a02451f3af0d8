"""Canaries and controls: what was planted and found again, and what must not matter and does not."""

from __future__ import annotations

import streamlit as st

from forwardinf_core.ui import state
from forwardinf_core.ui.attribution.question import Project
from forwardinf_core.ui.components.lights import lights
from forwardinf_core.ui.verify.summary import lamps_of


def checks_part(project: Project) -> None:
    """Draw the controls of the head with their figures and thresholds."""
    from forwardinf_core.verification import lights as service

    found = service.control_lights(project.audit)
    st.subheader("Controls", anchor=False)
    st.caption("One thing changed at a time, on 20 random test rows. What must not matter should not.")
    lights(lamps_of(found), key=state.CONTROLS, label="Controls", columns=3)
    with st.expander("When is it green?", type="compact"):
        for light in found:
            if light.rule:
                st.caption(f"**{light.title}.** {light.rule}")
