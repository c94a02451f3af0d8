"""Answers that take a while: the panel that waits, and the quiet bar that offers a better one."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from forwardinf_core.errors import AuditError
from forwardinf_core.ui import address, frame, messages, state
from forwardinf_core.ui.attribution.question import QUICK, REFINED, Project, Question, is_quick
from forwardinf_core.ui.components.watch import after, watch
from forwardinf_core.ui.wording import plain
from forwardinf_core.ui.work.panel import address_of
from forwardinf_core.ui.work.waiting import at_work, stopped

SETTLE_MS = 800  # a person stays with a query so long before its refined answer is worked on


@dataclass(frozen=True, slots=True)
class Refining:
    """The refining that this session started last. ``job`` is empty where the answer was there already."""

    asked: str
    job: str


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
                on_click=show,
                args=("",),
            )
        else:
            st.badge(plain(question.method), icon=":material/science:", color="violet")


@st.fragment(key=state.REFINING_BAR)
def refine_bar(project: Project, question: Question) -> None:
    """Draw how far the refined answer is; when it is ready, offer it without moving anything.

    The work starts when the person has stayed with the query for a moment: who leafs through queries starts none.
    """
    refining = st.session_state.get(state.REFINING)
    with messages.guard():
        if not isinstance(refining, Refining) or refining.asked != question.asked:
            after(SETTLE_MS, question.asked, key=state.SETTLING, on_end=lambda: start_refining(project, question))
        elif refining.job and not has_ended(project, refining.job):
            watch(
                address_of(project.ref),
                refining.job,
                key=state.REFINING_PROGRESS,
                words="Refining in the background:",
                slim=True,
                on_end=lambda: None,
            )
        else:
            offer(project, refining)


def offer(project: Project, refining: Refining) -> None:
    """Draw the way to the refined answer, or why there is none."""
    fault = project.audit.progress(refining.job).fault if refining.job else None
    if fault is not None:
        st.caption(f"There is no refined answer: {plain(fault.title)}")
        return
    st.button(
        "Refined answer ready: show it",
        key=state.SHOW_REFINED,
        icon=":material/auto_awesome:",
        type="tertiary",
        on_click=show,
        args=(REFINED,),
    )


def show(method: str) -> None:
    """Show the answer by another method."""
    address.go(method=method)
    frame.redraw()


def start_refining(project: Project, question: Question) -> None:
    """Start to refine this answer and stop refining the one the person has left."""
    job = project.audit.attribute_job(question.query, REFINED, question.target)
    if job is not None:
        take_up(project, job)
    left = st.session_state.get(state.REFINING)
    if isinstance(left, Refining) and left.job and left.job != job and not has_ended(project, left.job):
        project.audit.stop(left.job)
        st.session_state.setdefault(state.LEFT_BEHIND, set()).add(left.job)
    st.session_state[state.REFINING] = Refining(question.asked, job or "")


def take_up(project: Project, job: str) -> None:
    """Go on with work that was stopped only because this person had gone to another query."""
    left_behind = st.session_state.get(state.LEFT_BEHIND, set())
    if job in left_behind:
        left_behind.remove(job)
        project.audit.go_on(job)


def has_ended(project: Project, job: str) -> bool:
    """Say whether a job is at work no longer."""
    progress = project.audit.progress(job)
    return progress.done or progress.fault is not None


def of_method(project: Project, method: str) -> str:
    """Return a method with what an answer by it costs, in a few words."""
    from forwardinf_core.audits.costs import of_method as cost_of_method

    title = next((info.title for info in project.audit.methods() if info.name == method), method)
    cost = cost_of_method(project.audit, method)
    return title if cost is None else f"{title} · {cost.brief}"


def must_confirm(project: Project, question: Question) -> bool:
    """Say whether work on an answer will not fit, and nobody has said yet that it is to begin all the same."""
    from forwardinf_core.audits.costs import of_method as cost_of_method

    if is_quick(project, question.method) or question.asked in st.session_state.get(state.CONFIRMED, set()):
        return False
    cost = cost_of_method(project.audit, question.method)
    if cost is None or cost.fits:
        return False
    return not project.audit.is_at_hand(question.query, question.method, question.target)


def confirm(project: Project, question: Question) -> None:
    """Say that an answer will not fit, and offer to begin all the same."""
    from forwardinf_core.audits.costs import of_method as cost_of_method

    cost = cost_of_method(project.audit, question.method)
    if cost is not None:
        messages.show_error(AuditError(cost.warning, hint=f"It will take {cost.brief}."))

    def begin() -> None:
        st.session_state.setdefault(state.CONFIRMED, set()).add(question.asked)

    with st.container(horizontal=True):
        st.button("Start it all the same", key=state.START_ANYWAY, icon=":material/play_arrow:", on_click=begin)
        if QUICK in usable_methods(project):
            st.button("Show the quick answer", key=state.STOP_REFINING, on_click=show, args=("",))


def wait_for(project: Project, question: Question, job: str) -> None:
    """Draw the progress of a long answer in its place; it shows by itself when it is there."""
    take_up(project, job)
    fault = project.audit.progress(job).fault
    if fault is not None:
        stopped(job, fault)
    else:
        at_work(project.ref, job, of_method(project, question.method))
    if QUICK in usable_methods(project):
        st.button("Show the quick answer", key=state.STOP_REFINING, on_click=show, args=("",))
