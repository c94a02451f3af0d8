"""Two pictures that differ in one setting, side by side: what made each, and how much of it they share."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from forwardinf_core.errors import DataError
from forwardinf_core.ui import address, messages, state
from forwardinf_core.ui.components.board import Board, Side, board
from forwardinf_core.ui.frame import GenerationProject
from forwardinf_core.ui.generation import listing
from forwardinf_core.ui.generation.picture_card import NAMES, picture_card, settings_to_change
from forwardinf_core.ui.generation.question import USUAL_GUIDANCE, USUAL_STEPS, Link
from forwardinf_core.ui.generation.steps import answer_or_offer, picture_or_wait
from forwardinf_core.ui.wording import counted, plain

if TYPE_CHECKING:
    from forwardinf_core.audits.generation.ranking import Ranking

SHOWN = 10  # rows in each gallery
WIDTH = 150  # pixels of a picture


def comparison(project: GenerationProject, link: Link) -> None:
    """Draw both pictures with their rows; rows that both share carry a badge."""
    from forwardinf_core.audits.generation.ranking import ranking_of

    if link.differ not in settings_to_change(project, link):
        raise DataError(
            f"The link compares by ‘{link.differ[:40]}’, which is no setting of this picture.",
            hint="Stop comparing, and choose a setting.",
        )
    links = (replace(link, differ="", other=""), link.second)
    heading(link)
    summary = st.container()
    found: list[Ranking | None] = []
    places = []
    for number, (column, own) in enumerate(zip(st.columns(2, gap="large"), links, strict=True)):
        ranking = None
        with column, messages.guard():
            picture = picture_or_wait(project, own)
            if picture is not None:
                with st.container(border=True):
                    picture_card(project, picture, name=str(number), width=WIDTH, is_wide=True)
                answer = answer_or_offer(project, picture, own, name=f"{number}-")
                ranking = None if answer is None else ranking_of(answer)
        places.append(column)
        found.append(ranking)
    both = shared(found)
    if both is not None:
        with summary:
            st.markdown(summary_of(found, both))
    for number, (column, ranking) in enumerate(zip(places, found, strict=True)):
        if ranking is not None:
            with column:
                plain_sides = listing.made_it(project, ranking, SHOWN)
                sides = tuple(_marked(project, side, both or frozenset(), number) for side in plain_sides)
                shown = Board(asked=f"{links[number]}", selected="", sides=sides)
                board(shown, key=state.side(state.GEN_BOARD, str(number)), on_select=lambda _row: None)


def heading(link: Link) -> None:
    """Say in what the two differ, and offer to swap them or to stop."""
    usual = {"steps": str(USUAL_STEPS), "guidance": f"{USUAL_GUIDANCE:g}"}
    now = getattr(link, link.differ) or usual.get(link.differ, "") or "none"
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"{NAMES[link.differ]} **{plain(now)}** beside **{plain(link.other or 'none')}**.")
        st.space("stretch")
        st.button(
            "Swap",
            key=state.GEN_SWAP,
            icon=":material/swap_horiz:",
            on_click=address.go,
            kwargs={link.differ: link.other, "other": "" if now == "none" else now},
        )
        st.button(
            "Stop comparing",
            key=state.GEN_STOP_COMPARING,
            icon=":material/close:",
            on_click=address.go,
            kwargs={"differ": "", "other": ""},
        )


def shared(found: list[Ranking | None]) -> frozenset[int] | None:
    """Return the positions that both show among those that helped or hurt most; None while an answer is missing."""
    shown = [
        set(ranking.top(SHOWN).tolist()) | set(ranking.bottom(SHOWN).tolist())
        for ranking in found
        if ranking is not None
    ]
    return frozenset(shown[0] & shown[1]) if len(shown) == 2 else None


def summary_of(found: list[Ranking | None], both: frozenset[int]) -> str:
    """Say in one line what the two answers share. ``found`` holds both rankings."""
    one, other = (ranking for ranking in found if ranking is not None)
    line = f"{counted(len(both), 'shown image')} in common" if both else "No shown image in common"
    common, left, right = np.intersect1d(one.positions, other.positions, return_indices=True)
    if len(common) < 2:
        return f"{line}."
    ranks = [
        np.argsort(np.argsort(scores, kind="stable")) for scores in (one.scores.score[left], other.scores.score[right])
    ]
    agreement = float(np.corrcoef(ranks[0], ranks[1])[0, 1])
    of = "all images" if one.is_whole and other.is_whole else f"the {len(common):,} images scored for both"
    return f"{line}. Rank agreement over {of}: **{agreement:+.2f}**".replace("-", "\u2212")


def _marked(project: GenerationProject, side: Side, both: frozenset[int], number: int) -> Side:
    ids = {project.audit.train_ids[position] for position in both}
    tiles = tuple(replace(tile, badge="both") if tile.id in ids else tile for tile in side.tiles)
    return replace(side, label=f"{side.label}, {'first' if number == 0 else 'second'} picture", tiles=tiles)
