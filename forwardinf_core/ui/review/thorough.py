"""Search again with networks that do not learn the suspects: minutes, and the surest ranking there is."""

from __future__ import annotations

import streamlit as st

from forwardinf_core.ui import state
from forwardinf_core.ui.review.session import Desk
from forwardinf_core.ui.work.cost import cost_of, start_button
from forwardinf_core.ui.work.waiting import follow, newest

NETWORKS = 2  # docs/mislabels.md says what they gain


def thorough(desk: Desk) -> None:
    """Offer the longer search where the built-in network is audited and that search is not there yet, or watch it."""
    from forwardinf_core.audits import costs
    from forwardinf_core.audits.mislabels import finding
    from forwardinf_core.verification.recipes import can_be_retrained

    audit, options = desk.project.audit, finding.FindOptions(networks=NETWORKS)
    if not can_be_retrained(audit) or finding.find_suspects(audit, options) is not None:
        return
    job = newest(audit.folder, finding.KIND, options)
    if job is not None:
        follow(desk.project.ref, job, "Searching more thoroughly")
        if job.is_active:
            return
    with st.popover("Search more thoroughly", icon=":material/manage_search:", type="tertiary", width="stretch"):
        st.markdown(
            f"**{NETWORKS} networks** are trained here without the rows that look wrong, so that they cannot "
            "learn a wrong label by heart. All rows are then ranked anew; your decisions stay."
        )
        cost = cost_of(
            costs.dry_run_of(audit), lambda rates: costs.of_trainings(audit, NETWORKS, rates, beside=finding.KIND)
        )
        start_button(
            "Search",
            cost,
            key=state.FIND_MORE,
            icon=":material/play_arrow:",
            on_click=lambda: finding.start_suspects(audit, options),
        )
