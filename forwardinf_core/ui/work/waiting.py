"""One job in its place on a page: how far it is and the way to stop it, or why it stopped and the way on.

The browser asks the web server how far it is; the page is drawn again only when the job has ended.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from forwardinf_core.errors import AuditError
from forwardinf_core.ui import messages, state, work
from forwardinf_core.ui.components.watch import watch
from forwardinf_core.ui.wording import plain
from forwardinf_core.ui.work.panel import address_of

if TYPE_CHECKING:
    from forwardinf_core.jobs.queue import JobStatus


def newest(folder: Path, kind: str, options: object = None) -> JobStatus | None:
    """Return the newest job of a kind (with ``options``: of this very work) unless it is done; active ones first."""
    from forwardinf_core.jobs import run

    if options is not None:
        found = run.find(kind, folder, options)
    else:
        same = [job for job in run.list_jobs(folder) if job.kind == kind]
        found = next((job for job in same if job.is_active), max(same, key=lambda job: job.id, default=None))
    return None if found is None or found.state == "done" else found


def follow(project_ref: str, job: JobStatus, words: str = "") -> None:
    """Draw how a job stands; ``words`` say above it what is being done."""
    if job.is_active:
        at_work(project_ref, str(job.id), words)
    else:
        stopped(str(job.id), AuditError(job.error or f"The work was {job.state}.", hint=job.hint))


def at_work(project_ref: str, job: str, words: str = "") -> None:
    """Draw how far a job is; what comes of it shows by itself."""
    with st.container(border=True, gap="small"):
        if words:
            st.markdown(f"**{plain(words)}**")
        key = state.of_run(state.WAITING, job)
        watch(address_of(project_ref), job, key=key, words="", slim=False, on_end=lambda: None)
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            st.caption("You can leave this page: the work goes on, and what it finds is kept.")
            st.button(
                "Stop",
                key=state.of_run(state.STOP_WORK, job),
                type="tertiary",
                icon=":material/stop_circle:",
                on_click=_act,
                args=(work.cancel, job),
            )


def stopped(job: str, fault: AuditError) -> None:
    """Draw why a job stopped, and the way to go on with it."""
    messages.show_error(fault)
    st.button(
        "Retry",
        key=state.of_run(state.RETRY_WORK, job),
        icon=":material/refresh:",
        help="Goes on from its last finished piece.",
        on_click=_act,
        args=(work.retry, job),
    )


def _act(action: work.Action, job: str) -> None:
    with messages.guard():
        action(int(job))
