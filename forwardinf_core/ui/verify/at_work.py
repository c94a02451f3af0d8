"""Long checks on the Verify screen: start, progress, stop, go on. The work lives in the worker, not in the page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from forwardinf_core.errors import AuditError
from forwardinf_core.ui import messages, state, work
from forwardinf_core.ui.wording import duration, plain

if TYPE_CHECKING:
    from forwardinf_core.jobs.queue import JobStatus

POLL = "700ms"


def latest(folder: Path, kind: str, options: object) -> JobStatus | None:
    """Return the newest job of this very work that is not done, or None."""
    from forwardinf_core.jobs import run
    from forwardinf_core.jobs.registry import find_kind

    record = find_kind(kind).record_of(options)
    same = [job for job in run.list_jobs(folder) if job.kind == kind and job.options == record]
    found = next((job for job in same if job.is_active), same[0] if same else None)
    return None if found is None or found.state == "done" else found


def follow(job: JobStatus) -> None:
    """Draw how a job stands: its progress and the way to stop it, or what stopped it and the way on."""
    if not job.is_active:
        with st.container(border=True, gap="xsmall"):
            if job.state == "cancelled":
                st.markdown("**Stopped.** What was finished is kept.")
            else:
                messages.show_error(AuditError(job.error or f"The work was {job.state}.", hint=job.hint))
            st.button(
                "Go on",
                key=state.of_run(state.RESUME_CHECK, str(job.id)),
                type="primary",
                on_click=work.retry,
                args=(job.id,),
            )
        return

    @st.fragment(run_every=POLL)
    def panel() -> None:
        from forwardinf_core.jobs import run

        with messages.guard():
            now = run.status(job.id)
            if not now.is_active:
                st.rerun()
            with st.container(border=True, gap="xsmall"):
                share = min(now.done / now.total, 1.0) if now.total else 0.0
                left = f" · about {duration(now.seconds_left)} left" if now.seconds_left is not None else ""
                note = "Stopping" if now.cancel_requested else plain(now.note) or "Waiting for its turn"
                st.progress(share, text=f"{note}{left}")
                with st.container(horizontal=True, vertical_alignment="center"):
                    st.caption("You can leave this page: the work goes on, and the answer is kept.")
                    st.button(
                        "Stop",
                        key=state.of_run(state.STOP_CHECK, str(job.id)),
                        type="tertiary",
                        on_click=work.cancel,
                        args=(job.id,),
                        disabled=now.cancel_requested,
                    )

    panel()
