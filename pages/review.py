"""Review: work through the rows with suspicious labels, one key each, and take the result home."""

import streamlit as st

from forwardinf_core.audits.decisions import ledger_of
from forwardinf_core.audits.review import AUDIT
from forwardinf_core.ui import frame, messages
from forwardinf_core.ui.review import link, session
from forwardinf_core.ui.review.after import after
from forwardinf_core.ui.review.bulk import bulk
from forwardinf_core.ui.review.filters import filters
from forwardinf_core.ui.review.finding import finding
from forwardinf_core.ui.review.heading import heading
from forwardinf_core.ui.review.panel import deck_panel
from forwardinf_core.ui.review.thorough import thorough

FILTERS_WIDTH = 272  # pixels

project = frame.project()
desk = session.desk(project)
if desk is None:
    frame.heading("Review", "Find training rows with wrong labels, decide each with one key, export a clean set.")
    with messages.guard():
        finding(project)
    st.stop()

heading(desk)
with messages.guard():
    place = link.read(project.audit.classes)
    with st.container(horizontal=True, gap="large"):
        deck_side, filter_side = st.container(width="stretch"), st.container(width=FILTERS_WIDTH)
    with deck_side:
        deck_panel(desk, place)
    with filter_side, messages.guard():
        ledger = ledger_of(project.audit.project, AUDIT).refreshed()
        filters(desk, place, ledger)
        bulk(desk, place, ledger)
        thorough(desk)
    after(desk, ledger_of(project.audit.project, AUDIT).refreshed())
