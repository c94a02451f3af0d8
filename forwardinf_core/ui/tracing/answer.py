"""The answer: texts in the order of one ranking, each with its standing in the others, and one of them opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from forwardinf_core.ui import address, messages, state
from forwardinf_core.ui.components.passages import passages
from forwardinf_core.ui.frame import TracingProject
from forwardinf_core.ui.thumbs import token_of
from forwardinf_core.ui.tracing import listing
from forwardinf_core.ui.tracing.detail import detail
from forwardinf_core.ui.tracing.question import RANKINGS, Link, read, token_shares
from forwardinf_core.ui.wording import counted, plain

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from forwardinf_core.audits.tracing.records import Trace

WORDS = {
    "helped": "Moved the model towards these words: learning such a text makes them likelier.",
    "hurt": "Moved the model away from these words: learning such a text makes them less likely.",
    "bm25": "Says the same: texts with the rare words of what is asked. It is silent on what the model learned.",
    "embedding": "Reads alike to the model: the angle of mean hidden states. It is silent on what the model learned.",
    "overlap": "Shares the longest run of words, letter by letter.",
    "fused": "BM25 first; influence and likeness break its ties, the more the surer the model is of these words.",
}
ANY = "All texts"


@st.fragment
def texts_panel(project: TracingProject, trace: Trace) -> None:
    """Draw the list and the open text; choosing a text draws only this again."""
    with messages.guard():
        link = read()
        ranking = _choose_ranking(link)
        keep = _filter(project, link)
        st.caption(WORDS[ranking])
        if ranking == "hurt" and trace.caveat:
            st.caption(f":material/warning: {plain(trace.caveat)}")
        found = listing.order_of(trace, ranking, keep)
        left, right = st.columns([1.55, 1], gap="large")
        with left:
            known = _list(project, trace, found, key=state.TRACE_LIST, selected=link.text)
            line = listing.truth_line(known)
            if line:
                st.markdown(f":material/fact_check: {line}")
        with right:
            opened = _opened(project, link.text, found)
            if opened is not None:
                detail(project, trace, opened)


def side(project: TracingProject, trace: Trace, *, key: str) -> None:
    """Draw what helped one of two completions."""
    found = listing.order_of(trace, "helped", np.ones(len(project.audit.ids), dtype=bool))
    known = _list(project, trace, found, key=key, selected="")
    line = listing.truth_line(known)
    if line:
        st.caption(line)


def _list(project: TracingProject, trace: Trace, found: NDArray[np.int64], *, key: str, selected: str) -> list[str]:
    if not len(found):
        messages.show_empty("No text to show.", "No text stands in this ranking with this filter.")
        return []
    audit, token, standing = project.audit, token_of(project.ref), listing.standings(trace)
    known = [audit.states(trace.said, place) for place in found.tolist()]
    rows = [
        listing.passage(
            trace, audit.ids[place], place, token_shares(token, trace.run_id, place, audit, trace), words, standing
        )
        for place, words in zip(found.tolist(), known, strict=True)
    ]
    passages(rows, key=key, label="Training texts", selected=selected, on_select=lambda own: address.go(text=own))
    return known


def _choose_ranking(link: Link) -> str:
    chosen = link.ranking if link.ranking in RANKINGS else "helped"
    st.session_state[state.TRACE_RANKING] = chosen
    st.segmented_control(
        "Ranked by",
        list(RANKINGS),
        format_func=RANKINGS.__getitem__,
        key=state.TRACE_RANKING,
        on_change=lambda: address.go(ranking=st.session_state[state.TRACE_RANKING] or "", text=""),
        label_visibility="collapsed",
    )
    return chosen


def _filter(project: TracingProject, link: Link) -> NDArray[np.bool_]:
    """Draw the choice of a source, and return which texts are kept."""
    audit = project.audit
    everything = np.ones(len(audit.ids), dtype=bool)
    columns = audit.group_columns()
    if not columns:
        return everything
    by, of, _ = st.columns([1, 2, 3])
    column = link.column if link.column in columns else ""
    st.session_state[state.TRACE_COLUMN] = column
    by.selectbox(
        "Filter by",
        ["", *columns],
        format_func=lambda name: name or ANY,
        key=state.TRACE_COLUMN,
        on_change=lambda: address.go(column=st.session_state[state.TRACE_COLUMN], value="", text=""),
        label_visibility="collapsed",
    )
    if not column:
        return everything
    values = audit.project.texts.column(column)
    names = sorted(set(values))
    st.session_state[state.TRACE_VALUE] = link.value if link.value in names else names[0]
    wanted = of.selectbox(
        "Value",
        names,
        key=state.TRACE_VALUE,
        on_change=lambda: address.go(value=st.session_state[state.TRACE_VALUE], text=""),
        label_visibility="collapsed",
    )
    keep = np.array([value == wanted for value in values])
    st.caption(f"{counted(int(keep.sum()), 'text')} with {plain(column)} {plain(str(wanted))}.")
    return keep


def _opened(project: TracingProject, wanted: str, found: NDArray[np.int64]) -> int | None:
    if wanted:
        return project.audit.project.texts.position(wanted)
    return int(found[0]) if len(found) else None
