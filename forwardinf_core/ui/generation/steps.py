"""From a link to its picture, and from a picture to its answer: each there, at work, stopped, or not asked for yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from forwardinf_core.ui import state
from forwardinf_core.ui.frame import GenerationProject
from forwardinf_core.ui.generation.question import Link, answer, method_of, picture_in, wish_in
from forwardinf_core.ui.wording import counted, plain
from forwardinf_core.ui.work.cost import cost_of, start_button
from forwardinf_core.ui.work.waiting import follow, newest

if TYPE_CHECKING:
    from forwardinf_core.audits.generation.methods import Method
    from forwardinf_core.audits.generation.records import Generation, Picture

FITTED = ("ekfac", "diagonal")  # steps that need a curvature
FIRST_FIT = " The first time, the curvature is fitted as well: that takes the longest, and is kept."


def picture_or_wait(project: GenerationProject, link: Link) -> Picture | None:
    """Return the picture in the link; while it is being painted, draw how far that is and return None."""
    from forwardinf_core.audits.generation.painting import KIND
    from forwardinf_core.jobs import run

    found = picture_in(project, link)
    wish = wish_in(link)
    if found is not None or wish is None:
        return found
    follow(project.ref, run.submit_once(KIND, project.audit.folder, wish))
    return None


def answer_or_offer(project: GenerationProject, picture: Picture, link: Link, *, name: str = "") -> Generation | None:
    """Return the answer in the link; else draw the way to it, or how far the work on it is, and return None."""
    from forwardinf_core.audits.generation.tracing import KIND, TraceOptions

    found = answer(project, picture, link)
    if found is not None:
        return found
    method = method_of(link)
    job = newest(project.audit.folder, KIND, TraceOptions(((picture.query, picture.label),), method))
    if job is not None:
        follow(project.ref, job)
    else:
        offer(project, picture, method, name=name)
    return None


def offer(project: GenerationProject, picture: Picture, method: Method, *, name: str) -> None:
    """Draw the button that starts the work, and say what it will do."""
    from forwardinf_core.audits.generation.costs import dry_run_of, of_trace
    from forwardinf_core.audits.generation.methods import TITLES

    n_images = len(project.audit.train_ids)
    count = counted(n_images, "training image")
    again = zip(("those that matter most", "the very first and last"), method.looks, strict=False)
    ends = "".join(
        f", {which} {counted(draws, 'more time')}" for which, (share, draws) in again if round(share * n_images)
    )
    mirrored = ", half of the times mirrored" if project.audit.mirrors else ""

    def start() -> None:
        project.audit.trace_job(picture, method)

    with st.container(border=True, horizontal_alignment="center", gap="xsmall"):
        st.markdown(":gray[:material/image_search:]", text_alignment="center")
        st.markdown("**Which training images made it?**", text_alignment="center")
        st.caption(
            f"{plain(TITLES.get(method.name, method.name))}: the model is moved a little away from this picture, then "
            f"looks at {count if method.shortlist is None else 'the most alike of ' + count} again, "
            f"{counted(method.draws, 'time')} each{ends}{mirrored}." + (FIRST_FIT if method.step in FITTED else ""),
            text_alignment="center",
        )
        audit = project.audit
        cost = cost_of(dry_run_of(audit), lambda rates: of_trace(audit, method, rates), name=name, is_centred=True)
        start_button(
            "Find them",
            cost,
            key=state.side(state.GEN_TRACE, name),
            icon=":material/manage_search:",
            on_click=start,
        )
