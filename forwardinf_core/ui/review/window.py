"""The part of the queue that the deck is handed: frozen while a filter stands, in pieces, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from forwardinf_core.audits.decisions import Ledger
from forwardinf_core.audits.review_items import Item, Step, steps_done, steps_undone
from forwardinf_core.datasets.rows import DataRows, images_of, texts_of
from forwardinf_core.ui import state, thumbs
from forwardinf_core.ui.components.deck import Json, Window
from forwardinf_core.ui.review.link import Place
from forwardinf_core.ui.review.session import Desk, Reviewer
from forwardinf_core.ui.serving import trusted_rows

if TYPE_CHECKING:
    from forwardinf_core.audits.audit import Audit

BLOCK = 50  # rows asked for at a time; two are sent, so that fast keys never wait
TEXT_SHOWN = 4000  # letters of a text under review
TEXT_BESIDE = 160  # letters of one beside it


@dataclass(frozen=True)
class Queue:
    """Rows to go through, in order, as they were when the filter was set: deciding does not move the others."""

    signature: tuple[object, ...]
    version: str
    positions: NDArray[np.int64]
    cursor: int
    done: list[dict[str, Json]]
    undone: list[dict[str, Json]]


def queue_for(desk: Desk, place: Place, reviewer: Reviewer, ledger: Ledger, *, blind: bool) -> Queue:
    """Return the session's queue, made anew where filter, reviewer or search have changed, or where it was asked."""
    turn = int(st.session_state.get(state.REVIEW_TURN, 0))
    signature = (desk.review.suspects.run_id, reviewer.name, place.chosen, blind, turn)
    known = st.session_state.get(state.REVIEW_QUEUE)
    if isinstance(known, Queue) and known.signature == signature:
        return known
    positions = desk.review.queue(place.chosen, ledger, reviewer.name)
    positions, cursor = _begin(positions, desk.review.positions.get(place.row))
    count = int(st.session_state.get(state.REVIEW_VERSION, 0)) + 1
    st.session_state[state.REVIEW_VERSION] = count
    st.session_state.pop(state.REVIEW_PLACE, None)
    made = Queue(
        signature,
        f"{count}-{desk.review.suspects.run_id}",
        positions,
        cursor,
        [_step(step) for step in steps_done(ledger, reviewer.name)],
        [_step(step) for step in steps_undone(ledger, reviewer.name)],
    )
    st.session_state[state.REVIEW_QUEUE] = made
    st.session_state.pop(state.REVIEW_WINDOW, None)
    return made


def window_for(
    desk: Desk, queue: Queue, place: Place, reviewer: Reviewer, ledger: Ledger, *, blind: bool
) -> dict[str, Json]:
    """Return the data of the deck: the very same object until another piece of the queue is asked for."""
    at = int(st.session_state.get(state.REVIEW_PLACE, queue.cursor))
    start = max(0, min(at, len(queue.positions) - 1)) // BLOCK * BLOCK
    known = st.session_state.get(state.REVIEW_WINDOW)
    if known is not None and known[0] == (queue.version, start, reviewer):
        found: dict[str, Json] = known[1]
        return found
    chosen = queue.positions[start : start + 2 * BLOCK].tolist()
    audit = desk.project.audit
    items = desk.items.of(chosen, ledger, reviewer.name, blind=blind)
    data = Window(
        version=queue.version,
        total=len(queue.positions),
        start=start,
        block=BLOCK,
        cursor=queue.cursor,
        mode=place.view,
        items=[_wire(audit, desk, item) for item in items],
        names=audit.classes,
        thumbs=f"/thumbs/{thumbs.token_of(desk.project.ref)}",
        pixels=_pixels(desk),
        is_text=_is_text(audit),
        store=desk.place,
        reviewer=reviewer.name,
        named=reviewer.said,
        done=queue.done,
        undone=queue.undone,
        skip=place.chosen.state == "open",
        settles=place.chosen.state == "disagree",
    ).data()
    st.session_state[state.REVIEW_WINDOW] = ((queue.version, start, reviewer), data)
    return data


def _begin(positions: NDArray[np.int64], wanted: int | None) -> tuple[NDArray[np.int64], int]:
    """Return the queue and where it begins: at the row in the link, which is put first where the filter has it not."""
    if wanted is None:
        return positions, 0
    found = np.flatnonzero(positions == wanted)
    if len(found):
        return positions, int(found[0])
    return np.concatenate([np.array([wanted], np.int64), positions]), 0


def _is_text(audit: Audit) -> bool:
    return audit.train.content == "text"


@st.cache_data(max_entries=8, show_spinner=False)
def _longer_side(token: str, _desk: Desk) -> int:  # noqa: ARG001  # the token names the rows
    return int(max(images_of(_desk.project.audit.train).image(0).size))


def _pixels(desk: Desk) -> int:
    return 0 if _is_text(desk.project.audit) else _longer_side(thumbs.token_of(desk.project.ref), desk)


def _wire(audit: Audit, desk: Desk, item: Item) -> dict[str, Json]:
    found = desk.review.suspects
    is_text = _is_text(audit)

    def beside(rows: DataRows | None, labels: NDArray[np.int64], positions: tuple[int, ...]) -> list[Json]:
        if is_text and rows is not None:
            texts = texts_of(rows)
            return [[at, int(labels[at]), texts.text(at)[:TEXT_BESIDE]] for at in positions]
        return [[at, int(labels[at])] for at in positions]

    trusted = trusted_rows(audit) if item.against else None
    return {
        "p": item.position,
        "id": item.id,
        "l": item.label,
        "s": item.suggested,
        "rank": item.rank,
        "ch": round(item.chance, 4),
        "c": [[code, round(share, 4)] for code, share in item.choices],
        "why": list(item.reasons),
        "n": beside(audit.train, found.label, item.neighbours),
        "t": beside(audit.train, found.label, item.copies),
        "a": beside(trusted, found.trusted_labels, item.against),
        "v": None if item.verdict is None else list(item.verdict),
        "o": [list(other) for other in item.others],
        "b": audit.planted(item.position),
        "x": texts_of(audit.train).text(item.position)[:TEXT_SHOWN] if is_text else "",
    }


def _step(step: Step) -> dict[str, Json]:
    rows: list[Json] = [[row, list(now), None if before is None else list(before)] for row, now, before in step.rows]
    return {"step": step.step, "rows": rows, "undo": step.undo}
