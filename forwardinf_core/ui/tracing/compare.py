"""Two completions of one prompt side by side: why this and not that?"""

from __future__ import annotations

import streamlit as st

from forwardinf_core.jobs.queue import JobStatus
from forwardinf_core.ui import address, state
from forwardinf_core.ui.frame import TracingProject
from forwardinf_core.ui.tracing.answer import side
from forwardinf_core.ui.tracing.question import Link, answer, method_of, said
from forwardinf_core.ui.wording import plain, share
from forwardinf_core.ui.work.waiting import follow


def comparison(project: TracingProject, link: Link) -> None:
    """Draw the texts that helped each of the two completions."""
    first = said(project, link.prompt, link.completion, link.places)
    second = said(project, link.prompt, link.other)
    st.button(
        "Stop comparing",
        key=state.TRACE_STOP_COMPARING,
        icon=":material/close:",
        type="tertiary",
        on_click=address.go,
        kwargs={"other": ""},
    )
    columns = st.columns(2, gap="large")
    for number, (column, asked) in enumerate(zip(columns, (first, second), strict=True)):
        with column:
            chance = 1.0
            for place in asked.target:
                chance *= asked.tokens[place].probability
            st.markdown(f"#### … {plain(asked.completion)}", anchors=False)
            st.caption(f"The model gives it {share(chance)}. Texts that helped it most:")
            with st.spinner("Tracing"):
                found = answer(project, asked, method_of(project, link))
            if isinstance(found, JobStatus):
                follow(project.ref, found)
            else:
                side(project, found, key=state.side(state.TRACE_LIST, str(number)))
