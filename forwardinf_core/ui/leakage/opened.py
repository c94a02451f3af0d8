"""One pair opened: both pictures and their difference, why it has its verdict, and what to do with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import streamlit as st

from forwardinf_core.ui import address, frame, messages, state, thumbs
from forwardinf_core.ui.attribution.question import Project
from forwardinf_core.ui.components.pair import pair_view
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
    test_id, train_id = pair.query.removeprefix("test:"), audit.train_ids[pair.train]
    with st.container(border=True, gap="small"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.badge(pair.verdict, color=COLOURS[pair.verdict], help=VERDICT_WORDS[pair.verdict])
            st.badge(pair.labels, color="red" if pair.labels == "conflicting label" else "gray")
            st.markdown(f":gray[confidence {share(pair.score)}]")
        pair_view(
            (
                thumbs.address(project.ref, "test", audit.test.position(test_id)),
                f"Test row {test_id}: {class_name(audit.classes, pair.label)}",
            ),
            (
                thumbs.address(project.ref, "train", pair.train),
                f"Training row {train_id}: {class_name(audit.classes, pair.train_label)}",
            ),
            is_mirrored=pair.is_mirrored,
            key=state.LEAK_PAIR,
        )
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
