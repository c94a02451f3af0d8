"""One pair opened: both rows and their difference, why it has its verdict, and what to do with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import streamlit as st

from forwardinf_core.ui import address, frame, messages, state, texts, thumbs
from forwardinf_core.ui.attribution.question import Project
from forwardinf_core.ui.components.pair import pair_view
from forwardinf_core.ui.components.texts_pair import Side, texts_pair
from forwardinf_core.ui.review.session import reviewer
from forwardinf_core.ui.wording import class_name, plain, share

if TYPE_CHECKING:
    from forwardinf_core.audits.decisions import Row
    from forwardinf_core.audits.leakage.deciding import Choice
    from forwardinf_core.audits.leakage.records import Leakage, Pair
    from forwardinf_core.store.decisions import Decision

COLOURS: dict[str, Literal["red", "orange", "violet", "gray"]] = {
    "exact copy": "red",
    "near copy": "orange",
    "same content": "violet",
    "none": "gray",
}
BUTTONS: tuple[tuple[Choice, str, str, str], ...] = (
    ("drop-test", "Drop from test", ":material/content_cut:", "T"),
    ("drop-train", "Drop from training", ":material/layers_clear:", "D"),
    ("keep", "Keep both", ":material/check:", "K"),
)


def opened_pair(
    project: Project, found: Leakage, pair: Pair, pairs: tuple[Pair, ...], decided: Mapping[Row, Decision]
) -> None:
    """Draw the open pair."""
    from forwardinf_core.audits.leakage.records import VERDICT_WORDS
    from forwardinf_core.audits.leakage.verdicts import reasons_of

    audit = project.audit
    with st.container(border=True, gap="small"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.badge(pair.verdict, color=COLOURS[pair.verdict], help=VERDICT_WORDS[audit.content][pair.verdict])
            st.badge(pair.labels, color="red" if pair.labels == "conflicting label" else "gray")
            st.markdown(f":gray[confidence {share(pair.score)}]")
        both_rows(project, pair)
        with st.container(gap="xxsmall"):
            for reason in reasons_of(pair):
                st.caption(plain(reason))
        actions(project, found, pair, pairs, decided)
    st.page_link(
        frame.ATTRIBUTION,
        label="See what this test row's prediction rests on",
        icon=":material/hub:",
        query_params={"query": pair.query},
    )


def both_rows(project: Project, pair: Pair) -> None:
    """Draw both rows with what differs between them."""
    audit = project.audit
    test_id = pair.query.removeprefix("test:")
    test = audit.test.position(test_id)
    own = f"Test row {test_id}: {class_name(audit.classes, pair.label)}"
    other = f"Training row {audit.train_ids[pair.train]}: {class_name(audit.classes, pair.train_label)}"
    if audit.content != "text":
        left, right = thumbs.address(project.ref, "test", test), thumbs.address(project.ref, "train", pair.train)
        pair_view((left, own), (right, other), is_mirrored=pair.is_mirrored, key=state.LEAK_PAIR)
        return
    from forwardinf_core.audits.leakage.difference import MOST_WORDS, difference

    found = difference(texts.visible(audit.text("test", test)), texts.visible(audit.text("train", pair.train)))
    note = f"{found.shared:,} words in common, of {found.n_left:,} and {found.n_right:,}; marked is what differs."
    if found.is_cut:
        note += f" Only the first {MOST_WORDS:,} words are compared."
    sides = [[(piece.text, piece.is_own) for piece in pieces] for pieces in (found.left, found.right)]
    texts_pair(Side(own, sides[0]), Side(other, sides[1]), note, key=state.LEAK_PAIR)


def actions(
    project: Project, found: Leakage, pair: Pair, pairs: tuple[Pair, ...], decided: Mapping[Row, Decision]
) -> None:
    """Draw the three choices with their keys, undo and redo."""
    from forwardinf_core.audits.leakage.deciding import CHOICE_WORDS, choice_of

    choice = choice_of(project.audit, pair, decided)
    with st.container(horizontal=True, gap="small"):
        for name, words, icon, key in BUTTONS:
            st.button(
                words,
                key=state.side(state.LEAK_DECIDE, name),
                icon=icon,
                shortcut=key,
                type="primary" if choice == name else "secondary",
                on_click=decide,
                args=(project, found, pair, pairs, name),
            )
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        for words, widget, key, is_undo in (
            ("Undo", state.LEAK_UNDO, "U", True),
            ("Redo", state.LEAK_REDO, "Y", False),
        ):
            icon = ":material/undo:" if is_undo else ":material/redo:"
            st.button(
                words, key=widget, icon=icon, type="tertiary", shortcut=key, on_click=take_back, args=(project, is_undo)
            )
        if choice is not None:
            st.markdown(f":gray[Decided: {CHOICE_WORDS[choice]}.]")


def decide(project: Project, found: Leakage, pair: Pair, pairs: tuple[Pair, ...], choice: Choice) -> None:
    """Record a choice and go on to the next undecided pair."""
    from forwardinf_core.audits.leakage import choosing, deciding

    with messages.guard():
        deciding.decide(project.audit, found, pair, choice, reviewer().name)
        decided = deciding.current(project.audit)
        address.go(pair=choosing.next_open(project.audit, pairs, pair.query, decided))


def take_back(project: Project, is_undo: bool) -> None:
    """Undo or redo the last choice of this reviewer."""
    from forwardinf_core.audits.leakage import deciding

    with messages.guard():
        (deciding.undo if is_undo else deciding.redo)(project.audit, reviewer().name)


def export(decided: Mapping[Row, Decision]) -> None:
    """Draw the way to take the decisions home."""
    from forwardinf_core.audits.leakage.deciding import sheet

    st.download_button(
        "Download the decisions",
        sheet(decided),
        file_name="leakage-decisions.csv",
        mime="text/csv",
        key=state.LEAK_EXPORT,
        icon=":material/download:",
        type="tertiary",
        disabled=not decided,
        help="One line for each decided row, of either split.",
    )
