"""The review's title, what the search found, and what a person has to know before trusting it."""

from __future__ import annotations

import streamlit as st

from forwardinf_core.audits.decisions import ledger_of
from forwardinf_core.audits.review import AUDIT
from forwardinf_core.ui import frame
from forwardinf_core.ui.review.session import Desk
from forwardinf_core.ui.wording import counted, plain


def heading(desk: Desk) -> None:
    """Draw the heading with its notes."""
    found = desk.review.suspects
    rows, wrong = counted(len(desk.review), "training row"), counted(round(found.n_wrong), "wrong label")
    frame.heading("Review", f"About {wrong} expected among {rows}; the most suspicious come first.")
    gone = desk.review.gone(ledger_of(desk.project.audit.project, AUDIT).refreshed())
    notes = [*found.notes]
    if gone:
        rows = counted(len(gone), "decision")
        notes.append(f"{rows} on rows that the training set no longer has: kept, but left out of exports.")
    for note in notes:
        st.caption(f":material/info: {plain(note)}")
