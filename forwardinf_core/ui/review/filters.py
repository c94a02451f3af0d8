"""Which rows to go through: state, class pair, reviewer, range of suspicion; and who is reviewing."""

from __future__ import annotations

import streamlit as st

from forwardinf_core.audits.decisions import Ledger
from forwardinf_core.audits.review import Filter, State
from forwardinf_core.ui import address, state
from forwardinf_core.ui.review import session
from forwardinf_core.ui.review.charts import pairs_chart
from forwardinf_core.ui.review.link import Place
from forwardinf_core.ui.review.session import Desk
from forwardinf_core.ui.review.suspicion import suspicion_chart
from forwardinf_core.ui.wording import counted, plain

WORDS: dict[State, str] = {
    "open": "Open",
    "decided": "Decided",
    "keep": "Kept",
    "relabel": "Relabelled",
    "drop": "Dropped",
    "unsure": "Unsure",
    "disagree": "Disagreements",
    "all": "All",
}
ANY = "Any"


def filters(desk: Desk, place: Place, ledger: Ledger) -> None:
    """Draw the filters beside the deck."""
    chosen = place.chosen
    who(ledger)
    named_select("Show", state.REVIEW_SHOW, list(WORDS), list(WORDS.values()), chosen.state, "show", keep_first=True)
    codes = [str(code) for code in range(len(desk.project.audit.classes))]
    names = [plain(name) for name in desk.project.audit.classes]
    label, suggested = st.columns(2, gap="small")
    with label:
        code = "" if chosen.label is None else str(chosen.label)
        named_select("Label", state.REVIEW_LABEL, ["", *codes], [ANY, *names], code, "label")
    with suggested:
        code = "" if chosen.suggested is None else str(chosen.suggested)
        named_select("Suggested", state.REVIEW_SUGGESTED, ["", *codes], [ANY, *names], code, "suggested")
    others = list(dict.fromkeys([*ledger.reviewers(), *([chosen.reviewer] if chosen.reviewer else [])]))
    if len(others) > 1 or chosen.reviewer:
        options, shown = ["", *others], ["Anybody", *map(plain, others)]
        named_select("Decided by", state.REVIEW_BY, options, shown, chosen.reviewer, "by")
    found = desk.review.suspects
    st.caption("Suspicion: all rows, and the :primary[wrong labels] expected. Drag over it to keep a range.")
    suspicion_chart(found.run_id, found.score, found.wrong_chance, chosen)
    st.toggle(
        "Beyond the suspects",
        value=chosen.whole,
        key=f"{state.REVIEW_WHOLE}-{chosen.whole}",
        help=f"Only the {desk.review.n_suspects:,} most suspicious rows are shown, those down to a 5% chance.",
        on_change=lambda: address.go(rows="" if chosen.whole else "all", low="", high="", row=""),
    )
    cells = desk.review.confusion(ledger, session.reviewer().name)
    if cells:
        st.caption("Label ↓ against suggestion →. A click keeps its rows.")
        pairs_chart(found.run_id, cells, desk.project.audit.classes)
    if chosen != Filter():
        st.button(
            "Clear all filters",
            key=state.REVIEW_CLEAR,
            type="tertiary",
            icon=":material/filter_alt_off:",
            on_click=clear,
        )


def named_select(
    title: str, key: str, options: list[str], names: list[str], chosen: str, name: str, *, keep_first: bool = False
) -> None:
    """Draw a choice that is kept in the link; the first option is what a link without it means."""
    widget = f"{key}-{chosen}"  # the link is the truth: where it changes, the widget begins anew with it

    def changed() -> None:
        picked = str(st.session_state[widget])
        address.go(**{name: "" if keep_first and picked == options[0] else picked, "row": ""})

    st.selectbox(
        title,
        options,
        index=options.index(chosen) if chosen in options else 0,
        format_func=dict(zip(options, names, strict=True)).__getitem__,
        key=widget,
        on_change=changed,
    )


def clear() -> None:
    """Go back to all open suspects."""
    address.go(show="", label="", suggested="", low="", high="", by="", rows="", row="")


def who(ledger: Ledger) -> None:
    """Draw who is reviewing, and the choice to do so blind."""
    reviewer = session.reviewer()
    with st.popover(f"Reviewing as {plain(reviewer.name)}", icon=":material/person:", width="stretch"):
        if reviewer.signed_in:
            st.caption("You are signed in; decisions carry this name.")
        else:
            st.text_input(
                "Your name",
                value=reviewer.name,
                max_chars=100,
                key=f"{state.REVIEWER_NAME}-{reviewer.name}",
                on_change=lambda: session.name_reviewer(
                    str(st.session_state[f"{state.REVIEWER_NAME}-{reviewer.name}"])
                ),
            )
        st.toggle("Blind: hide what others decided", key=state.BLIND, value=session.is_blind(), on_change=keep_blind)
        others = [name for name in ledger.reviewers() if name != reviewer.name]
        if others:
            st.caption(f"{counted(len(others), 'other reviewer')}: {plain(', '.join(others))}")


def keep_blind() -> None:
    """Remember the choice across pages."""
    st.session_state[state.BLIND_KEPT] = bool(st.session_state[state.BLIND])
