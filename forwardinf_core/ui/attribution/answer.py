"""The answer: the rows that helped and hurt, one of them opened, and the histogram of all scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from forwardinf_core.ui import address, answers, messages, state
from forwardinf_core.ui.attribution.detail import detail
from forwardinf_core.ui.attribution.drawn import SHOWN, board_of
from forwardinf_core.ui.attribution.question import Project, Question
from forwardinf_core.ui.components.board import board
from forwardinf_core.ui.components.gallery import gallery
from forwardinf_core.ui.histogram import histogram
from forwardinf_core.ui.wording import counted, signed

if TYPE_CHECKING:
    from forwardinf_core.audits.records import Attribution


def open_training_row(row: str) -> None:
    """Put the chosen training row into the link."""
    address.go(row=row)


@st.fragment
def rows_panel(project: Project, question: Question, answer: Attribution) -> None:
    """Draw the board, the opened row and the histogram; choosing a row draws only this again."""
    with messages.guard():
        row = address.read().row
        shown = board_of(project, question, answer, row)
        board(shown, key=state.BOARD, on_select=open_training_row)
        detail(project, answer, answers.open_row(answer, row, project.audit.train_ids))
        spread(project, question, answer, shown.selected)


def spread(project: Project, question: Question, answer: Attribution, selected: str) -> None:
    """Draw the histogram of all scores and, when a range is drawn on it, the rows in it."""
    scores = answer.scores.score
    st.markdown("#### All scores", anchors=False)
    chosen = histogram(answer, question.asked, shown=SHOWN)
    if chosen is None:
        st.caption("Most rows hardly matter. Drag across the bars to see the rows of a range; a click on it clears it.")
        return
    found = answers.in_range(scores, *chosen)
    st.caption(f"{counted(len(found), 'row')} from {signed(chosen[0])} to {signed(chosen[1])}, strongest first.")
    if len(found):
        gallery(
            answers.training_tiles(project.audit, project.ref, answer, found[: 3 * SHOWN]),
            key=state.IN_RANGE,
            label="Rows in the range",
            selected=selected,
            on_select=open_training_row,
        )
