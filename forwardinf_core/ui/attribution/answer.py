"""The answer: the rows that helped and hurt, one of them opened, and the histogram of all scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from forwardinf_core.ui import address, answers, messages, state
from forwardinf_core.ui.attribution.detail import detail
from forwardinf_core.ui.attribution.question import Project
from forwardinf_core.ui.components.gallery import gallery
from forwardinf_core.ui.histogram import histogram
from forwardinf_core.ui.wording import class_name, counted, plain, signed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from forwardinf_core.audits.records import Attribution

SHOWN = 12  # rows in each gallery


def open_training_row(row: str) -> None:
    """Put the chosen training row into the link."""
    address.go(row=row)


@st.fragment
def rows_panel(project: Project, answer: Attribution) -> None:
    """Draw the two galleries, the opened row and the histogram; choosing a row draws only this again."""
    with messages.guard():
        opened = answers.open_row(answer, address.read().row, project.audit.train_ids)
        selected = "" if opened is None else project.audit.train_ids[opened]
        sides = st.columns(2, gap="medium")
        with sides[0]:
            side(project, answer, answer.scores.top(SHOWN), key=state.HELPED, selected=selected)
        with sides[1]:
            side(project, answer, answer.scores.bottom(SHOWN), key=state.HURT, selected=selected)
        detail(project, answer, opened)
        spread(project, answer, selected)


def side(project: Project, answer: Attribution, rows: NDArray[np.int64], *, key: str, selected: str) -> None:
    """Draw one gallery with its heading."""
    target = plain(class_name(project.audit.classes, answer.target))
    with st.container(gap="xxsmall"):
        if key == state.HELPED:
            st.markdown("#### :green[:material/arrow_upward:] Helped", anchors=False)
            st.caption(f"Learning these makes **{target}** more likely here.")
        else:
            st.markdown("#### :red[:material/arrow_downward:] Hurt", anchors=False)
            st.caption(f"Learning these makes **{target}** less likely here.")
    if not len(rows):
        messages.show_empty("No row did.", "Every score points the other way.")
        return
    gallery(
        answers.training_tiles(project.audit, project.ref, answer, rows),
        key=key,
        label="Rows that helped" if key == state.HELPED else "Rows that hurt",
        selected=selected,
        on_select=open_training_row,
    )


def spread(project: Project, answer: Attribution, selected: str) -> None:
    """Draw the histogram of all scores and, when a range is drawn on it, the rows in it."""
    scores = answer.scores.score
    st.markdown("#### All scores", anchors=False)
    chosen = histogram(answer, shown=SHOWN)
    if chosen is None:
        st.caption(
            "Most rows hardly matter. Drag across the bars to see the rows of a range; a double click clears it."
        )
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
