"""One verdict for many rows: everything in the filter or the first K of it, after saying how many that is."""

from __future__ import annotations

import streamlit as st

from forwardinf_core.audits.decisions import DROP, KEEP, RELABEL, UNSURE, Ledger
from forwardinf_core.audits.review_log import decide_all
from forwardinf_core.ui import messages, state
from forwardinf_core.ui.review import session
from forwardinf_core.ui.review.link import Place
from forwardinf_core.ui.review.panel import start_over
from forwardinf_core.ui.review.session import Desk
from forwardinf_core.ui.wording import counted

ACTIONS = {
    KEEP: "Keep the label",
    RELABEL: "Relabel to the suggestion",
    DROP: "Drop the row",
    UNSURE: "Mark as unsure",
}
DONE = {KEEP: "kept", RELABEL: "relabelled", DROP: "dropped", UNSURE: "marked as unsure"}


def bulk(desk: Desk, place: Place, ledger: Ledger) -> None:
    """Draw the way to decide many rows at once."""
    with st.popover("Decide many", icon=":material/done_all:", width="stretch"):
        total = len(desk.review.queue(place.chosen, ledger, session.reviewer().name))
        if not total:
            st.caption("No row is in this filter.")
            return
        st.radio("Rows", ["all", "top"], key=state.BULK_WHICH, format_func=lambda which: words(which, total))
        if st.session_state.get(state.BULK_WHICH) == "top":
            st.number_input("How many", 1, total, min(20, total), key=state.BULK_COUNT)
        st.selectbox("Verdict", list(ACTIONS), key=state.BULK_ACTION, format_func=ACTIONS.__getitem__)
        if st.button("Decide …", key=state.BULK_ASK, width="stretch"):
            confirm(desk, place)


def words(which: str, total: int) -> str:
    """Return what a choice of rows means."""
    return f"All {total:,} in this filter" if which == "all" else "The most suspicious of them"


@st.dialog("Decide many rows")
def confirm(desk: Desk, place: Place) -> None:
    """Say how many rows it is, and do it when told so."""
    from forwardinf_core.audits.decisions import ledger_of
    from forwardinf_core.audits.review import AUDIT

    reviewer = session.reviewer().name
    ledger = ledger_of(desk.project.audit.project, AUDIT).refreshed()
    positions = desk.review.queue(place.chosen, ledger, reviewer)
    if st.session_state.get(state.BULK_WHICH) == "top":
        positions = positions[: int(st.session_state.get(state.BULK_COUNT, len(positions)))]
    action = str(st.session_state.get(state.BULK_ACTION, UNSURE))
    sure = float(desk.review.suspects.wrong_chance[positions].sum())
    st.markdown(f"**{counted(len(positions), 'row')}** will be {DONE[action]}.")
    st.caption(f"About {sure:.0f} of them are expected to have a wrong label. One undo takes all of it back.")
    if st.button(f"Decide {counted(len(positions), 'row')}", key=state.BULK_DO, type="primary"):
        with messages.guard():
            decide_all(desk.project.audit.project, desk.review, positions, action, reviewer)
            start_over()
            st.rerun()
