"""Memorization: which rows does the model know only because it saw them?"""

import streamlit as st

from forwardinf_core.audits.memorization import finding
from forwardinf_core.ui import frame, messages, state
from forwardinf_core.ui.memorization import session
from forwardinf_core.ui.memorization.reference import reference_part
from forwardinf_core.ui.memorization.rows import filters, rows_part
from forwardinf_core.ui.waiting_for_run import Offer, wait_or_offer

OFFER = Offer(
    kind=finding.KIND,
    title="Memorisation has not been scored yet",
    hint="Every training row is asked how much the model's answer on it leans on that very row. Takes seconds.",
    button="Score the rows",
    icon=":material/psychology:",
    running="Scoring the rows",
    key=state.MEM_START,
)

project = frame.project()
frame.heading("Memorization", "Which training rows does the model know only because it saw them?")
with messages.guard():
    found = session.memorization(project)
    if found is None:
        wait_or_offer(project, OFFER, lambda: finding.start(project.audit))
        st.stop()
    place = session.read(project.audit.classes)
    reference_part(project, found)
    filters(project, found, place)
    rows_part(project, found, place)
