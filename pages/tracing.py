"""Text tracing: which training texts made the language model say that?"""

import streamlit as st

from forwardinf_core.jobs.queue import JobStatus
from forwardinf_core.ui import frame, messages, state
from forwardinf_core.ui.tracing import prompt_box
from forwardinf_core.ui.tracing.answer import texts_panel
from forwardinf_core.ui.tracing.compare import comparison
from forwardinf_core.ui.tracing.cost import cost_of_trace, held_back
from forwardinf_core.ui.tracing.export import export_panel
from forwardinf_core.ui.tracing.question import answer, method_of, read, said
from forwardinf_core.ui.tracing.trust import groups_panel, method_panel
from forwardinf_core.ui.work.waiting import follow

project = frame.tracing()
link = read()

frame.heading("Text tracing", "Which training texts made the model say this, and which spoke against it?")
prompt_box.prompt_box(project, link)
if not link.prompt:
    prompt_box.suggestions(project)
    messages.show_empty(
        "Nothing asked yet.",
        "Type a prompt: the model completes it, and the texts that moved it there are shown.",
        icon=":material/manage_search:",
    )
    st.stop()

with messages.guard():
    asked = said(project, link.prompt, link.completion, link.places)
    prompt_box.said_line(asked, key=state.TRACE_TOKENS)
    if link.other:
        comparison(project, link)
        st.stop()
    prompt_box.could_say(asked)
    method = method_of(project, link)
    if held_back(project, asked, method):
        st.stop()
    with st.spinner("Tracing the training texts"):
        found = answer(project, asked, method)
    if isinstance(found, JobStatus):
        cost = cost_of_trace(project, method)
        follow(project.ref, found, "Tracing the training texts" + (f": {cost.brief}" if cost else ""))
    else:
        texts_panel(project, found)
        how, groups = st.columns(2)
        with how:
            method_panel(project, found)
        with groups:
            groups_panel(project, found)
        export_panel(project)
