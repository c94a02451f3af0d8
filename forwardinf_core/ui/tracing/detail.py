"""One training text opened: the whole of it with its words marked, where it stands, and what to do with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from forwardinf_core.ui import state
from forwardinf_core.ui.components.bars import Bar, bars
from forwardinf_core.ui.frame import TracingProject
from forwardinf_core.ui.review import session
from forwardinf_core.ui.thumbs import token_of
from forwardinf_core.ui.tracing import listing
from forwardinf_core.ui.tracing.question import token_shares
from forwardinf_core.ui.wording import effect, plain, signed, standing

if TYPE_CHECKING:
    from forwardinf_core.audits.tracing.records import TokenShare, Trace

NOTABLE = 0.01  # of the word that moved most; what moved less is not listed
STRONGEST = 8
VERDICTS = {"keep": ("Keep", ":material/check:"), "drop": ("Drop", ":material/delete:")}


def detail(project: TracingProject, trace: Trace, position: int) -> None:
    """Draw the open text."""
    audit, scores = project.audit, trace.scores
    own_id = audit.ids[position]
    score = float(scores.influence[position])
    place = listing.standings(trace)[position]
    with st.container(border=True, gap="small"):
        st.markdown(f"**{plain(own_id)}** · {effect(score)}, {standing(score, float(place))} of all texts")
        st.code(audit.texts[position], language=None, wrap_lines=True)
        known = audit.states(trace.said, position)
        if known:
            st.caption(f":material/fact_check: {known}.")
        _strongest(token_shares(token_of(project.ref), trace.run_id, position, audit, trace), trace.run_id)
        raw = float(scores.raw[position])
        influence = "" if score == raw else f"Influence `{signed(score)}` · "  # the change itself, by some methods
        st.caption(
            f"{influence}Change of its loss `{signed(raw)}` of `{float(scores.loss[position]):.3g}` · "
            f"BM25 `{float(scores.bm25[position]):.2f}` · alike `{float(scores.embedding[position]):.2f}`"
        )
        verdict(project, own_id, score, trace.run_id)


def _strongest(shares: tuple[TokenShare, ...], run_id: str) -> None:
    order = sorted(shares, key=lambda share: -abs(share.score))[:STRONGEST]
    largest = max((abs(share.score) for share in order), default=0.0)
    if not largest:
        st.caption("No word of this text moved.")
        return
    rows = [
        Bar(
            share.text.strip() or "␣",
            0.5 + min(share.score, 0) / largest / 2,
            0.5 + max(share.score, 0) / largest / 2,
            signed(share.score),
            tone="helped" if share.score > 0 else "hurt",
        )
        for share in order
        if abs(share.score) >= NOTABLE * largest
    ]
    st.caption("The words whose prediction moved most:")
    bars(rows, key=state.of_run(state.TRACE_WORDS, run_id), label="Words that moved most", zero=0.5)


def verdict(project: TracingProject, own_id: str, score: float, run_id: str) -> None:
    """Draw what was decided about this text, and the buttons that decide."""
    from forwardinf_core.audits import decisions

    found = decisions.current(project.audit.project, "tracing", session.reviewer().name).get(("train", own_id))
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        for action, (word, icon) in VERDICTS.items():
            st.button(
                word,
                key=f"{state.TRACE_VERDICT}-{action}",
                icon=icon,
                type="primary" if found is not None and found.action == action else "secondary",
                help="Recorded with the score you see.",
                on_click=_decide,
                args=(project, own_id, score, run_id, action),
            )
        if found is not None:
            st.caption(f"Decided: {plain(found.action)}.")


def _decide(project: TracingProject, own_id: str, score: float, run_id: str, action: str) -> None:
    from forwardinf_core.audits import decisions
    from forwardinf_core.store.decisions import Decision

    made = Decision(
        audit="tracing",
        split="train",
        row_id=own_id,
        action=action,
        reviewer=session.reviewer().name,
        score=score,
        run_id=run_id,
    )
    decisions.record(project.audit.project, [made])
