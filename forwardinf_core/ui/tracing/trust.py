"""How the answer was made, and the groups of texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from forwardinf_core.ui import address, state
from forwardinf_core.ui.frame import TracingProject
from forwardinf_core.ui.wording import duration, plain

if TYPE_CHECKING:
    from forwardinf_core.audits.tracing.records import Trace

GROUPS_SHOWN = 30


def method_panel(project: TracingProject, trace: Trace) -> None:
    """Draw the choice of the method with its plain words and every option it used."""
    choices = {choice.name: choice for choice in project.audit.methods()}
    with st.container(border=True, height="stretch", gap="xsmall"):
        st.markdown("**How it was scored**")
        st.session_state[state.TRACE_METHOD] = trace.method
        st.selectbox(
            "Method",
            list(choices),
            format_func=lambda name: choices[name].title,
            key=state.TRACE_METHOD,
            on_change=lambda: address.go(method=st.session_state[state.TRACE_METHOD], text=""),
            label_visibility="collapsed",
        )
        st.caption(plain(choices[trace.method].words))
        spent = {name: value for name, value in trace.seconds.items() if value >= 0.0005}
        st.caption(
            "The step moved the log-odds of these words by "
            f"{trace.rise:.3g}. " + " · ".join(f"{plain(name)} {duration(value)}" for name, value in spent.items())
        )
        with st.expander("Every option", type="compact"):
            method = trace.options["method"]
            if isinstance(method, dict):
                for name, value in method.items():
                    st.caption(f"{plain(name)}: `{value}`")


def groups_panel(project: TracingProject, trace: Trace) -> None:
    """Draw the texts by a column, with their summed influence."""
    columns = project.audit.group_columns()
    with st.container(border=True, height="stretch", gap="xsmall"):
        st.markdown("**Groups of texts**")
        if not columns:
            st.caption("The corpus has no column to group by, such as a source or a file.")
            return
        chosen = st.selectbox("Group by", columns, key=state.TRACE_GROUP, label_visibility="collapsed")
        found = project.audit.groups(trace, chosen)
        ends = found if len(found) <= GROUPS_SHOWN else [*found[: GROUPS_SHOWN // 2], *found[-GROUPS_SHOWN // 2 :]]
        st.dataframe(
            pd.DataFrame(
                {
                    "Group": [group.name for group in ends],
                    "Influence": [group.influence for group in ends],
                    "Texts": [group.n_texts for group in ends],
                    "Helped": [group.helped for group in ends],
                }
            ),
            key=state.TRACE_GROUPS,
            hide_index=True,
            height=220,
            column_config={
                "Influence": st.column_config.NumberColumn(
                    format="%+.3g", help="Sum of the change of the texts' losses; positive = the group helped."
                )
            },
        )
