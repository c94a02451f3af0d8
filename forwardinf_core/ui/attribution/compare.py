"""Two queries side by side: their rows, and how much they have in common."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import streamlit as st

from forwardinf_core.ui import address, answers, state
from forwardinf_core.ui.attribution.drawn import card_of, side_of, spoken_name
from forwardinf_core.ui.attribution.question import QUICK, Project, Question, answer, ask
from forwardinf_core.ui.components.board import Board, board
from forwardinf_core.ui.components.card import card
from forwardinf_core.ui.components.gallery import Tile
from forwardinf_core.ui.wording import counted, plain

if TYPE_CHECKING:
    from forwardinf_core.audits.records import Attribution

SHOWN = 10  # rows in each gallery
CARD_WIDTH = 130  # pixels of a query's picture


def comparison(project: Project, named: address.Address) -> None:
    """Draw both queries with their rows; rows that both share carry a badge."""
    questions = [replace(ask(project, named, query), method=QUICK) for query in (named.query, named.compare)]
    found = [answer(project, question) for question in questions]
    likeness = answers.liken(found[0], found[1], SHOWN)
    said, buttons = st.columns([2, 1], vertical_alignment="center")
    said.markdown(summary(likeness))
    with buttons.container(horizontal=True, horizontal_alignment="right"):
        st.button("Swap", key=state.SWAP, icon=":material/swap_horiz:", on_click=swap)
        st.button("Stop comparing", key=state.STOP_COMPARING, icon=":material/close:", on_click=stop)
    for name, column, question, own in zip(
        ("left", "right"), st.columns(2, gap="large"), questions, found, strict=True
    ):
        with column:
            one_side(project, question, own, likeness, name)


def summary(likeness: answers.Likeness) -> str:
    """Say in one line what the two answers share."""
    parts = [
        f"{counted(len(rows), 'row')} {words}"
        for rows, words in (
            (likeness.helped, "helped both"),
            (likeness.hurt, "hurt both"),
            (likeness.crossed, "helped one and hurt the other"),
        )
        if rows
    ]
    shared = ", ".join(parts) or "No shown row is shared"
    return f"{shared}. Rank agreement over all rows: **{likeness.agreement:+.2f}**".replace("-", "\u2212")


def one_side(project: Project, question: Question, own: Attribution, likeness: answers.Likeness, name: str) -> None:
    """Draw one query with its two galleries."""
    with st.container(border=True):
        st.caption(plain(spoken_name(question.query, project.audit.content)).capitalize())
        card(card_of(project, question, width=CARD_WIDTH), key=state.side(state.QUERY_CARD, name))
    sides = []
    for rows, helped in ((own.scores.top(SHOWN), True), (own.scores.bottom(SHOWN), False)):
        side = side_of(project, own, rows, helped=helped)
        tiles = [marked(tile, position, likeness) for tile, position in zip(side.tiles, rows.tolist(), strict=True)]
        label = f"{side.label} {spoken_name(question.query, project.audit.content)}"
        sides.append(replace(side, label=label, tiles=tuple(tiles)))
    shown = Board(asked=question.asked, selected="", sides=tuple(sides))
    board(shown, key=state.side(state.BOARD, name), on_select=lambda _row: None)


def marked(tile: Tile, position: int, likeness: answers.Likeness) -> Tile:
    """Return the tile with a badge where the other query shows the same row: on the same side, or on the other."""
    if position in likeness.crossed:
        return replace(tile, badge="⇄")
    return replace(tile, badge="both") if position in likeness.helped | likeness.hurt else tile


def swap() -> None:
    """Change the two sides."""
    named = address.read()
    address.go(query=named.compare, compare=named.query)


def stop() -> None:
    """Go back to one query."""
    address.go(compare="")
