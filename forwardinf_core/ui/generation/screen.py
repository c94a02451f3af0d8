"""The generation tracing screen. All of it is one fragment: a click draws this again and never the frame around it."""

from __future__ import annotations

import streamlit as st

from forwardinf_core.ui import frame, messages, state
from forwardinf_core.ui.frame import GenerationProject
from forwardinf_core.ui.generation.answer import rows_panel
from forwardinf_core.ui.generation.check import check_panel
from forwardinf_core.ui.generation.compare import comparison
from forwardinf_core.ui.generation.maker import maker, painted_before
from forwardinf_core.ui.generation.picture_card import compare_choice, picture_card
from forwardinf_core.ui.generation.question import Link, read
from forwardinf_core.ui.generation.steps import answer_or_offer, picture_or_wait
from forwardinf_core.ui.generation.trust import controls_panel, groups_panel, method_panel

PICTURE_WIDTH = 284  # pixels
START = "Let the model paint a picture, and see which training images made it."
QUESTION = "Which training images made this picture, and which stood in its way?"


@st.fragment(key=state.SCREEN)
def screen(project: GenerationProject) -> None:
    """Draw what the link says: the start, one picture with its answer, or two side by side."""
    link = read()
    frame.heading("Generation tracing", START if link.is_empty else QUESTION)
    with messages.guard():
        if link.is_empty:
            beginning(project, link)
        elif link.differ:
            comparison(project, link)
        else:
            explained(project, link)


def beginning(project: GenerationProject, link: Link) -> None:
    """Draw the settings of a first picture and what was painted before."""
    maker(project, link, wide=True)
    if not painted_before(project):
        messages.show_empty(
            "Nothing painted yet.",
            "Let the model paint a picture, or upload one; then see which training images made it.",
            icon=":material/brush:",
        )


def explained(project: GenerationProject, link: Link) -> None:
    """Draw one picture with its answer."""
    from forwardinf_core.audits.generation.ranking import ranking_of

    with st.container(horizontal=True, gap="large"):
        side, main = st.container(width=PICTURE_WIDTH), st.container(width="stretch")
    picture = found = None
    with main, messages.guard():
        rows, below = st.container(), st.container()
        with rows:
            picture = picture_or_wait(project, link)
    with side, messages.guard():
        if picture is not None:
            with st.container(border=True, gap="small"):
                picture_card(project, picture)
            compare_choice(project, link)
        maker(project, link, wide=False)
    if picture is None:
        return
    with rows, messages.guard():
        found = answer_or_offer(project, picture, link)
        if found is not None:
            rows_panel(project, found)
    if found is not None:
        with below, messages.guard():
            check_panel(project, picture, found)
            groups_panel(project, ranking_of(found), link)
            how, trust = st.columns(2)
            with how:
                method_panel(project, found)
            with trust:
                controls_panel(found)
