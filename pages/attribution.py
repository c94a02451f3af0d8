"""Attribution: which training rows helped this prediction, and which hurt it?"""

import streamlit as st

from forwardinf_core.ui import address, frame, messages
from forwardinf_core.ui.attribution.answer import rows_panel
from forwardinf_core.ui.attribution.compare import comparison
from forwardinf_core.ui.attribution.compare_choice import compare_choice
from forwardinf_core.ui.attribution.method_panel import controls_panel, method_panel
from forwardinf_core.ui.attribution.picker import picker
from forwardinf_core.ui.attribution.query_card import query_card
from forwardinf_core.ui.attribution.question import answer, ask, job_for
from forwardinf_core.ui.attribution.waiting import wait_for, which_answer
from forwardinf_core.ui.verify.summary import does_it_hold, trust_of_answers

QUERY_WIDTH = 284  # pixels: four small tiles beside each other

project = frame.project()
named = address.read()

if not named.query:
    frame.heading("Attribution", "Choose a prediction and see which training rows helped it, and which hurt it.")
    picker(project, named, wide=True)
    st.stop()

frame.heading("Attribution", "Which training rows made the model say this?")
if named.compare:
    with messages.guard():
        comparison(project, named)
    st.stop()

with st.container(horizontal=True, gap="large"):
    query_side, answer_side = st.container(width=QUERY_WIDTH), st.container(width="stretch")
question = None
with query_side:
    with messages.guard():
        question = ask(project, named, named.query)
        query_card(project, question)
        compare_choice()
    picker(project, named, wide=False)

with answer_side, messages.guard():
    if question is not None:
        job = job_for(project, question)
        which_answer(project, question)
        if job is not None:
            wait_for(project, job)
        else:
            found = answer(project, question)
            rows_panel(project, found)
            how, trust = st.columns(2)
            with how:
                method_panel(project, found)
            with trust:
                controls_panel(found)
            does_it_hold(question)
            with messages.guard():
                trust_of_answers(project)
