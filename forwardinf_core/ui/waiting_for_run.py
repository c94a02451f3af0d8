"""Before an audit has a finished run: say what it would find out, start it, and watch it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from forwardinf_core.errors import JobError
from forwardinf_core.ui import messages
from forwardinf_core.ui.attribution.question import Project
from forwardinf_core.ui.frame import TracingProject
from forwardinf_core.ui.wording import duration, plain

if TYPE_CHECKING:
    from forwardinf_core.jobs.queue import JobStatus

POLL = "700ms"


@dataclass(frozen=True, slots=True)
class Offer:
    """What a person is offered: words while nothing runs, the button, and words while it runs."""

    kind: str  # of the job
    title: str
    hint: str
    button: str
    icon: str
    running: str
    key: str  # of the button


def wait_or_offer(project: Project | TracingProject, offer: Offer, start: Callable[[], object]) -> None:
    """Draw the job that runs, or the button that starts one, with why the last one failed."""
    from forwardinf_core.jobs import run

    known = [job for job in run.list_jobs(project.audit.folder) if job.kind == offer.kind]
    active = next((job for job in known if job.is_active), None)
    if active is not None:
        watch(active, offer.running)
        return
    if known and known[0].state == "failed":
        messages.show_error(JobError(known[0].error or "The work stopped.", hint=known[0].hint))
    messages.show_empty(offer.title, offer.hint, icon=offer.icon)

    def begin() -> None:
        with messages.guard():
            start()

    st.button(offer.button, key=offer.key, type="primary", icon=":material/search:", on_click=begin)


def watch(job: JobStatus, words: str) -> None:
    """Show how far a job is; draw everything again when it has ended."""
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
        st.markdown(f"**{plain(words)}**")
        progress()
        st.caption("You can leave this page; the work goes on.")
