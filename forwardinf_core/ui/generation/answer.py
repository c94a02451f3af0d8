"""The answer: images that helped and hurt, or those that only look alike; one of them opened; all scores."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from forwardinf_core.ui import address, answers, messages, state
from forwardinf_core.ui.components.board import Board, board
from forwardinf_core.ui.components.gallery import gallery
from forwardinf_core.ui.frame import GenerationProject
from forwardinf_core.ui.generation import listing
from forwardinf_core.ui.generation.detail import detail
from forwardinf_core.ui.generation.question import read
from forwardinf_core.ui.histogram import histogram
from forwardinf_core.ui.wording import counted, signed

if TYPE_CHECKING:
    from forwardinf_core.audits.generation.ranking import Ranking
    from forwardinf_core.audits.generation.records import Generation

MADE, ALIKE = "", "alike"
VIEWS = {MADE: "Made it", ALIKE: "Looks like it"}


def open_row(row: str) -> None:
    """Put the chosen training image into the link."""
    address.go(row=row)


@st.fragment
def rows_panel(project: GenerationProject, found: Generation) -> None:
    """Draw the galleries, the opened row and the histogram; choosing a row draws only this again."""
    from forwardinf_core.audits.generation.ranking import ranking_of

    with messages.guard():
        ranking, link = ranking_of(found), read()
        view = choose_view(link.view)
        shortlist_line(ranking)
        opened = position_of(project, link.row, ranking)
        sides = listing.made_it(project, ranking)
        if view == ALIKE:
            sides = listing.alike(project, found, ranking)
            st.caption(listing.overlap_line(found, ranking))
        elif known := listing.planted_line(project, ranking):
            st.caption(f":material/flag: {known}")
        selected = "" if opened is None else project.audit.train_ids[opened]
        asked = f"{found.run_id}|{view}"
        board(Board(asked=asked, selected=selected, sides=sides), key=state.GEN_BOARD, on_select=open_row)
        detail(project, found, ranking, opened)
        spread(project, found, ranking, selected)


def choose_view(wanted: str) -> str:
    """Draw the choice between what made the picture and what looks like it; return the one in the link."""
    chosen = wanted if wanted in VIEWS else MADE
    st.session_state[state.GEN_VIEW] = chosen
    st.segmented_control(
        "Show",
        list(VIEWS),
        format_func=VIEWS.__getitem__,
        required=True,
        key=state.GEN_VIEW,
        on_change=lambda: address.go(view=st.session_state[state.GEN_VIEW] or ""),
        label_visibility="collapsed",
    )
    return chosen


def shortlist_line(ranking: Ranking) -> None:
    """Say which images were scored, where not all were."""
    if not ranking.is_whole:
        st.caption(
            f":material/filter_alt: Only the {len(ranking.positions):,} images most alike to the model were scored; "
            f"the other {ranking.count - len(ranking.positions):,} of {ranking.count:,} were not looked at and marked "
            f"‘{listing.NOT_SCORED}’."
        )


def position_of(project: GenerationProject, row: str, ranking: Ranking) -> int | None:
    """Return the position of the row in the link, else of the one that helped most."""
    if row:
        return next((place for place, name in enumerate(project.audit.train_ids) if name == row), None)
    first = ranking.top(1) if len(ranking.top(1)) else ranking.bottom(1)
    return int(first[0]) if len(first) else int(ranking.positions[0])


def spread(project: GenerationProject, found: Generation, ranking: Ranking, selected: str) -> None:
    """Draw the histogram of all scores and, when a range is drawn on it, the images in it."""
    st.markdown("#### All scores", anchors=False)
    chosen = histogram(replace(found, scores=ranking.scores), found.run_id, shown=listing.SHOWN)
    if chosen is None:
        st.caption("Drag across the bars to see the images of a range; a click on it clears it.")
        return
    rows = ranking.positions[answers.in_range(ranking.scores.score, *chosen)]
    st.caption(f"{counted(len(rows), 'image')} from {signed(chosen[0])} to {signed(chosen[1])}, strongest first.")
    if len(rows):
        gallery(
            listing.tiles(project, ranking, np.asarray(rows[: 3 * listing.SHOWN])),
            key=state.GEN_RANGE,
            label="Images in the range",
            selected=selected,
            on_select=open_row,
        )
