"""The jobs panel, on every page: what runs, how far it is, how to stop it, and what has ended.

It polls only while something is at work; with nothing to do the browser and the server are silent.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from forwardinf_core.ui import frame, messages, state
from forwardinf_core.ui.wording import counted, duration, plain

if TYPE_CHECKING:
    from forwardinf_core.jobs.queue import JobStatus

POLL = "1s"
FINISHED_SHOWN = 6
KINDS = {
    "attribute": "Scoring the training rows",
    "prepare": "Preparing answers",
    "fit": "Training the built-in network",
    "demo": "Building a demo",
    "fit-language": "Training the built-in language model",
    "trace": "Tracing a completion",
    "trace-prepare": "Preparing traces",
    "removal": "Retraining without helpful rows",
    "canaries": "Planting canaries",
    "controls": "Making controls",
    "mislabels": "Looking for wrong labels",
    "review-effect": "Measuring the effect of the review",
}
ICONS = {
    "done": ":green[:material/check_circle:]",
    "failed": ":red[:material/error:]",
    "paused": ":orange[:material/pause_circle:]",
    "cancelled": ":gray[:material/cancel:]",
}


def panel(project: Path) -> None:
    """Draw the panel of a project's jobs into the sidebar."""
    from forwardinf_core.jobs import run

    at_work = any(job.is_active for job in run.list_jobs(project))

    @st.fragment(run_every=POLL if at_work else None, key=state.WORK)
    def shown() -> None:
        with messages.guard():
            found = run.list_jobs(project)
            active = [job for job in found if job.is_active]
            if at_work and not active:
                st.rerun()  # the last one ended between two looks: one full run, and the polling stops
            ended = [job for job in found if not job.is_active][:FINISHED_SHOWN]
            with st.popover(summary(active), icon=":material/progress_activity:" if active else ":material/task_alt:"):
                if not found:
                    st.caption("Long work shows here: how far it is, and how to stop it. Nothing has run yet.")
                for job in active:
                    running(job)
                for job in ended:
                    finished(job)

    with st.sidebar:
        shown()


def summary(active: list[JobStatus]) -> str:
    """Return the panel's label: how much is at work and how far the first of it is."""
    if not active:
        return "Work"
    first = active[0]
    share = f" · {100 * min(first.done / first.total, 1.0):.0f}%" if first.total else ""
    return f"{counted(len(active), 'job')}{share}"


def running(job: JobStatus) -> None:
    """Draw a job that waits or runs, with the way to stop it."""
    with st.container(border=True, gap="xsmall"):
        title, stop = st.columns([5, 1], vertical_alignment="center")
        title.markdown(f"**{KINDS.get(job.kind, plain(job.kind))}**")
        stop.button(
            "Cancel",
            key=f"{state.CANCEL_JOB}-{job.id}",
            icon=":material/close:",
            type="tertiary",
            help="Stop it; what is finished is kept, and it can go on later.",
            on_click=cancel,
            args=(job.id,),
        )
        if job.cancel_requested:
            st.caption("Stopping …")
        elif job.state == "queued":
            st.caption("Waiting for its turn")
        else:
            share = min(job.done / job.total, 1.0) if job.total else 0.0
            left = f" · about {duration(job.seconds_left)} left" if job.seconds_left is not None else ""
            st.progress(share, text=f"{plain(job.note) or 'At work'}{left}")
        log_of(job)


def finished(job: JobStatus) -> None:
    """Draw a job that has ended: its result's link, or what stopped it and the way on."""
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
        st.markdown(f"{ICONS.get(job.state, '')} {KINDS.get(job.kind, plain(job.kind))}", width="stretch")
        if job.state == "done":
            link = link_of(job)
            if link:
                st.page_link(frame.ATTRIBUTION, label="Open", query_params=link)
        else:
            st.button(
                "Go on",
                key=f"{state.RETRY_JOB}-{job.id}",
                type="tertiary",
                help="Goes on from its last finished piece.",
                on_click=retry,
                args=(job.id,),
            )
    if job.error:
        st.caption(f"{plain(job.error)} {plain(job.hint)}")
    if job.state != "done":
        log_of(job)


def log_of(job: JobStatus) -> None:
    """Draw the last lines of a job's log, folded away."""
    if job.log:
        with st.expander("Log", type="compact"):
            st.code("\n".join(job.log), language=None)


def link_of(job: JobStatus) -> dict[str, str]:
    """Return what the link to a job's answer says, or nothing where its result is no single answer."""
    queries, method = job.options.get("queries"), job.options.get("method")
    if job.kind != "attribute" or not isinstance(queries, list) or len(queries) != 1 or not isinstance(method, dict):
        return {}
    target = job.options.get("target")
    return {"query": str(queries[0]), "method": str(method.get("name", ""))} | (
        {} if target is None else {"target": str(target)}
    )


def cancel(job_id: int) -> None:
    """Stop a job."""
    from forwardinf_core.jobs import run

    run.cancel(job_id)


def retry(job_id: int) -> None:
    """Go on with a job."""
    from forwardinf_core.jobs import run

    run.retry(job_id)
