"""Take the decisions on training texts home: the corpus without what was dropped, in the shape it came in."""

from __future__ import annotations

import streamlit as st

from forwardinf_core.ui import messages, state
from forwardinf_core.ui.frame import TracingProject
from forwardinf_core.ui.wording import counted, plain

LINES_SHOWN = 20


@st.fragment
def export_panel(project: TracingProject) -> None:
    """Draw what was decided so far and the way to write the texts that stay; nothing before the first decision."""
    from forwardinf_core.reports.exports import corpus

    changes = corpus.changes_for(project.audit)
    if not changes.decided and not changes.disputed:
        return
    with messages.guard(), st.container(border=True, gap="small"):
        st.markdown("**The corpus as you decided**")
        left = len(project.audit.ids) - len(changes.drop)
        st.caption(
            f"{counted(len(changes.drop), 'text')} dropped, {changes.kept:,} kept by name: {left:,} of "
            f"{len(project.audit.ids):,} stay, each as it is."
            + (f" Reviewers disagree on {len(changes.disputed)}; they stay." if changes.disputed else "")
        )
        if changes.drop:
            names = [project.audit.ids[at] for at in sorted(changes.drop)[:LINES_SHOWN]]
            more = " …" if len(changes.drop) > len(names) else ""
            st.caption(f"Dropped: {plain(', '.join(names))}{more}")
        if st.button("Write the cleaned texts", key=state.TRACE_EXPORT, icon=":material/save:"):
            target = corpus.export_corpus(project.audit, corpus.suggested_target(project.audit), changes)
            st.success(f"Written: {plain(str(target))}")
