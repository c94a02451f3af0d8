"""The attribution screen. All of it is one fragment: a click draws this again and never the frame around it.

What a person waits for is drawn first, into places that were laid out before: the rows, then the query, then the rest.
"""

from __future__ import annotations

import streamlit as st

from forwardinf_core.ui import address, frame, messages, state
from forwardinf_core.ui.address import Address
from forwardinf_core.ui.attribution.answer import rows_panel
from forwardinf_core.ui.attribution.compare import comparison
from forwardinf_core.ui.attribution.compare_choice import compare_choice
from forwardinf_core.ui.attribution.method_panel import controls_panel, method_panel
from forwardinf_core.ui.attribution.picker import picker
from forwardinf_core.ui.attribution.query_card import query_card
from forwardinf_core.ui.attribution.question import Project, answer, ask, job_for
from forwardinf_core.ui.attribution.waiting import confirm, must_confirm, wait_for, which_answer
from forwardinf_core.ui.verify.summary import does_it_hold, trust_of_answers

QUERY_WIDTH = 284  # pixels: four small tiles beside each other


@st.fragment(key=state.SCREEN)
def screen(project: Project) -> None:
    """Draw what the link says: a choice of queries, the answer to one, or two side by side."""
    named = address.read()
    if not named.query:
        frame.heading("Attribution", "Choose a prediction and see which training rows helped it, and which hurt it.")
        picker(project, named, wide=True, fragment=state.SCREEN)
        return
    frame.heading("Attribution", "Which training rows made the model say this?")
    if named.compare:
        with messages.guard():
            comparison(project, named)
        return
    explained(project, named)


def explained(project: Project, named: Address) -> None:
    """Draw one query with its answer."""
    with st.container(horizontal=True, gap="large"):
        query_side, answer_side = st.container(width=QUERY_WIDTH), st.container(width="stretch")
    with answer_side:
        which, rows, below = st.container(), st.container(), st.container()
    question = found = None
    with rows, messages.guard():
        question = ask(project, named, named.query)
        if must_confirm(project, question):
            confirm(project, question)
        elif (job := job_for(project, question)) is not None:
            wait_for(project, question, job)
        else:
            found = answer(project, question)
            rows_panel(project, question, found)
    with query_side, messages.guard():
        if question is not None:
            query_card(project, question)
            compare_choice()
        picker(project, named, wide=False, fragment=state.SCREEN)
    if question is not None:
        with which, messages.guard(), st.container(horizontal=True, vertical_alignment="center"):
            with st.container():
                which_answer(project, question)
            does_it_hold(question)
    if question is not None and found is not None:
        with below, messages.guard():
            how, trust = st.columns(2)
            with how:
                method_panel(project, found)
            with trust:
                controls_panel(found)
        with below, messages.guard():
            trust_of_answers(project)
