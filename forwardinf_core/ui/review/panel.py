"""The deck with its receipt: the fragment that a key press runs again, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from forwardinf_core.audits.decisions import ledger_of
from forwardinf_core.audits.review import AUDIT
from forwardinf_core.audits.review_log import receive
from forwardinf_core.errors import AuditError
from forwardinf_core.ui import messages, state
from forwardinf_core.ui.components.deck import Receipt, deck, receipt, state_of
from forwardinf_core.ui.review import session
from forwardinf_core.ui.review.link import Place
from forwardinf_core.ui.review.session import Desk
from forwardinf_core.ui.review.window import queue_for, window_for


def deck_panel(desk: Desk, place: Place) -> None:
    """Draw the deck on the rows that the link asks for."""

    @st.fragment(key=state.REVIEW_PANEL)
    def panel() -> None:
        with messages.guard():
            reviewer, blind = session.reviewer(), session.is_blind()
            take_log(desk, reviewer.name)
            ledger = ledger_of(desk.project.audit.project, AUDIT).refreshed()
            queue = queue_for(desk, place, reviewer, ledger, blind=blind)
            deck(
                window_for(desk, queue, place, reviewer, ledger, blind=blind),
                key=state.DECK,
                on_log=lambda: None,  # read above, before anything is drawn
                on_place=take_place,
                on_again=start_over,
                on_name=take_name,
            )
            heard = st.session_state.get(state.REVIEW_HEARD) or Heard("", 0)
            found = desk.review.progress(ledger, reviewer.name)
            receipt(
                Receipt(
                    heard.tab, heard.turn, found.suspects, found.decided, found.remaining, heard.fault, heard.refused
                ),
                key=state.RECEIPT,
            )

    panel()


class Heard:
    """What became of the last log of a visit."""

    def __init__(self, tab: str, turn: int, fault: str = "", refused: tuple[str, ...] = ()) -> None:
        self.tab, self.turn, self.fault, self.refused = tab, turn, fault, refused


def take_log(desk: Desk, reviewer: str) -> None:
    """Keep what the deck sent, once, and note for the receipt what became of it."""
    sent = state_of(state.DECK, "log")
    if not isinstance(sent, Mapping) or not isinstance(sent.get("log"), list):
        return
    tab, turn = str(sent.get("tab", "")), int(sent.get("turn") or 0)
    known = st.session_state.get(state.REVIEW_HEARD)
    if known is not None and (known.tab, known.turn) == (tab, turn):
        return
    try:
        found = receive(desk.project.audit.project, desk.review, sent["log"], reviewer)
        heard = Heard(tab, turn, refused=found.refused)
    except AuditError as error:
        heard = Heard(tab, turn, fault=f"{error.title} {error.hint}".strip())
    st.session_state[state.REVIEW_HEARD] = heard


def take_place() -> None:
    """Note which part of the queue the deck needs next."""
    at = state_of(state.DECK, "at")
    st.session_state[state.REVIEW_PLACE] = int(at) if isinstance(at, int | float) else 0


def start_over() -> None:
    """Make the queue anew with what is open now."""
    st.session_state[state.REVIEW_TURN] = int(st.session_state.get(state.REVIEW_TURN, 0)) + 1


def take_name() -> None:
    """Take the name this browser was used under before, unless one was entered on this visit."""
    name = state_of(state.DECK, "name")
    if isinstance(name, str) and name.strip() and not st.session_state.get(state.REVIEWER_SAID):
        session.name_reviewer(name)
        st.rerun()
