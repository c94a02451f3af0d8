"""Leakage: is a test row in the training set, as it is or in another form?"""

import streamlit as st

from forwardinf_core.audits.leakage import deciding, report
from forwardinf_core.audits.leakage.detection import KIND
from forwardinf_core.ui import address, frame, messages, state
from forwardinf_core.ui.leakage import session
from forwardinf_core.ui.leakage.groups import groups_part
from forwardinf_core.ui.leakage.opened import export
from forwardinf_core.ui.leakage.pairs import pairs_part
from forwardinf_core.ui.leakage.summary import summary, trust
from forwardinf_core.ui.work.offer import Offer, wait_or_offer

project = frame.project()
content = "words and letters" if project.audit.content == "text" else "pixels"
offer = Offer(
    kind=KIND,
    title="Nobody has looked for copies yet",
    hint=f"Every test row is compared with every training row: by its {content}, and by what the model makes of it.",
    button="Look for copies",
    icon=":material/content_copy:",
    running="Looking for copies",
    key=state.LEAK_START,
)
frame.heading("Leakage", "Is a test row in the training set, as it is or in another form?")
with messages.guard():
    found = session.leakage(project)
    if found is None:
        wait_or_offer(project, offer, lambda: report.start(project.audit))
        st.stop()
    place = session.read()
    summary(project, found)
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.session_state[state.LEAK_PART] = place.part
        st.segmented_control(
            "Part",
            list(session.PARTS),
            format_func=session.PARTS.__getitem__,
            key=state.LEAK_PART,
            required=True,
            label_visibility="collapsed",
            on_change=lambda: address.go(part=st.session_state[state.LEAK_PART]),
        )
        export(deciding.current(project.audit))
    (groups_part if place.part == session.GROUPS else pairs_part)(project, found, place)
    trust(found)
