"""Before there are suspects: start the search, or watch it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from forwardinf_core.errors import JobError
from forwardinf_core.ui import messages, state
from forwardinf_core.ui.wording import duration, plain

if TYPE_CHECKING:
    from forwardinf_core.jobs.queue import JobStatus
    from forwardinf_core.ui.attribution.question import Project

POLL = "700ms"


def finding(project: Project) -> None:
    """Draw the search that runs, or the button that starts one."""
    from forwardinf_core.audits.mislabels.finding import KIND
    from forwardinf_core.jobs import run

    searches = [job for job in run.list_jobs(project.audit.folder) if job.kind == KIND]
    active = next((job for job in searches if job.is_active), None)
    if active is not None:
        watch(active)
        return
    last = searches[0] if searches else None
    if last is not None and last.state == "failed":
        messages.show_error(JobError(last.error or "The search stopped.", hint=last.hint))
    messages.show_empty(
        "No search for wrong labels yet",
        "It judges every training row by models that did not learn it, by its nearest rows and by your model.",
        icon=":material/manage_search:",
    )
    st.button(
        "Find suspects",
        key=state.FIND_SUSPECTS,
        type="primary",
        icon=":material/search:",
        on_click=start,
        args=(project,),
    )


def start(project: Project) -> None:
    """Hand the search to the worker."""
    from forwardinf_core.audits.mislabels.finding import start_suspects

    with messages.guard():
        start_suspects(project.audit)


def watch(job: JobStatus, title: str = "Looking for wrong labels") -> None:
    """Show how far the work is; draw everything again when it has ended."""
    from forwardinf_core.jobs import run

    @st.fragment(run_every=POLL)
    def progress() -> None:
        now = run.status(job.id)
        if not now.is_active:
            st.rerun()
        share = min(now.done / now.total, 1.0) if now.total else 0.0
        left = f" · about {duration(now.seconds_left)} left" if now.seconds_left is not None else ""
        st.progress(share, text=f"{plain(now.note) or 'Starting'}{left}")

    with st.container(width=560, gap="medium"):
        st.markdown(f"**{title}**")
        progress()
        st.caption("You can leave this page; the work goes on.")
