"""Answers that take a while: the panel that waits, and the quiet bar that offers a better one."""

from __future__ import annotations

import time
from dataclasses import dataclass

import streamlit as st

from forwardinf_core.errors import AuditError
from forwardinf_core.ui import address, messages, state
from forwardinf_core.ui.attribution.question import QUICK, REFINED, Project, Question, is_ready
from forwardinf_core.ui.wording import plain

POLL = "500ms"
SETTLE_S = 0.8  # seconds a person stays with a query before its refined answer is worked on


@dataclass(frozen=True, slots=True)
class Refined:
    """That the work on a refined answer has ended. ``fault`` says why there is none."""

    asked: tuple[str, int]  # query and target
    fault: str


def usable_methods(project: Project) -> set[str]:
    """Return the names of the methods this project can use."""
    return {info.name for info in project.audit.methods() if info.available}


def which_answer(project: Project, question: Question) -> None:
    """Draw which answer is shown and, where there is a better one, the way to it."""
    usable = usable_methods(project)
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="left", gap="small"):
        if question.method == QUICK:
            st.badge("Quick answer", icon=":material/bolt:", color="violet", help="The head alone was moved.")
            if REFINED in usable:
                refine_bar(project, question)
        elif question.method == REFINED:
            st.badge("Refined answer", icon=":material/verified:", color="violet", help="The last block was moved too.")
            st.button(
                "Back to the quick answer",
                key=state.SHOW_QUICK,
                type="tertiary",
                on_click=address.go,
                kwargs={"method": ""},
            )
        else:
            st.badge(plain(question.method), icon=":material/science:", color="violet")


def refine_bar(project: Project, question: Question) -> None:
    """Draw how far the refined answer is; when it is ready, offer it without moving anything.

    The work starts when the person has stayed with the query for a moment: who leafs through queries starts none. When
    it has ended, one quiet redraw ends the polling.
    """
    asked = (question.query, question.target)
    ended = st.session_state.get(state.REFINED)
    if ended is not None and ended.asked == asked:
        offer(ended)
        return
    opened_at = time.monotonic()
    started: dict[str, str | None] = {}

    @st.fragment(run_every=POLL)
    def bar() -> None:
        with messages.guard():
            if not started:
                if time.monotonic() - opened_at < SETTLE_S:
                    return
                started["job"] = start_refining(project, question)
            job = started["job"]
            progress = project.audit.progress(job) if job is not None else None
            if progress is None or progress.done or progress.fault is not None:
                fault = progress.fault.title if progress is not None and progress.fault is not None else ""
                st.session_state[state.REFINED] = Refined(asked, fault)
                st.rerun()
            st.caption(f":material/progress_activity: Refining in the background: {progress.fraction:.0%}")

    bar()


def offer(refined: Refined) -> None:
    """Draw the way to the refined answer, or why there is none."""
    if refined.fault:
        st.caption(f"There is no refined answer: {plain(refined.fault)}")
        return
    st.button(
        "Refined answer ready: show it",
        key=state.SHOW_REFINED,
        icon=":material/auto_awesome:",
        type="tertiary",
        on_click=address.go,
        kwargs={"method": REFINED},
    )


def start_refining(project: Project, question: Question) -> str | None:
    """Start to refine this answer and stop refining the one the person has left."""
    job = project.audit.attribute_job(question.query, REFINED, question.target)
    left = st.session_state.pop(state.REFINING, None)
    if left is not None and left != job and not project.audit.progress(left).done:
        project.audit.stop(left)
    if job is not None:
        st.session_state[state.REFINING] = job
    return job


def wait_for(project: Project, job: str) -> None:
    """Draw the progress of a long answer; the screen draws itself again when it is there."""

    @st.fragment(run_every=POLL)
    def panel() -> None:
        with messages.guard():
            try:
                if is_ready(project, job):
                    st.rerun()
            except AuditError as error:
                messages.show_error(error)
                st.button("Show the quick answer", key=state.STOP_REFINING, on_click=address.go, kwargs={"method": ""})
                return
            progress = project.audit.progress(job)
            with st.container(border=True):
                st.progress(progress.fraction, text=plain(progress.note) or "Working")
                st.caption("You can leave this page: the work goes on, and the answer is kept.")
                st.button("Show the quick answer", key=state.STOP_REFINING, on_click=address.go, kwargs={"method": ""})

    panel()
