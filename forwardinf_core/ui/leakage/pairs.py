"""The pairs: a filter, a gallery of test rows with a copy, and the open pair with the decision on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import streamlit as st

from forwardinf_core.ui import address, messages, state, texts, thumbs
from forwardinf_core.ui.attribution.question import Project
from forwardinf_core.ui.components.gallery import Tile, gallery
from forwardinf_core.ui.leakage.opened import opened_pair
from forwardinf_core.ui.leakage.session import Place
from forwardinf_core.ui.wording import class_name, counted, whole_percent

if TYPE_CHECKING:
    from forwardinf_core.audits.decisions import Row
    from forwardinf_core.audits.leakage.records import Leakage, Pair
    from forwardinf_core.store.decisions import Decision

MOST_SHOWN = 240  # tiles at once
GALLERY_HEIGHT = 560
MARKS = {"drop-test": "test dropped", "drop-train": "training dropped", "keep": "kept"}


def pairs_part(project: Project, found: Leakage, place: Place) -> None:
    """Draw the filter, the gallery and the open pair."""
    from forwardinf_core.audits.leakage import choosing, deciding

    filters(found, place)
    decided = deciding.current(project.audit)
    asked = choosing.Choosing(place.verdict or choosing.COPIES, place.labels, place.is_open)
    pairs = choosing.chosen_pairs(project.audit, found, asked, decided)
    if not pairs:
        nothing_to_show(found, place)
        return
    shown = pairs[:MOST_SHOWN]
    selected = next((pair for pair in pairs if pair.query == place.pair), shown[0])
    tiles_side, pair_side = st.columns([1, 1.35], gap="large")
    with pair_side, messages.guard():
        opened_pair(project, found, selected, pairs, decided)
    with tiles_side:
        more = f", the {MOST_SHOWN} surest shown" if len(pairs) > len(shown) else ""
        st.caption(f"{counted(len(pairs), 'test row')}{more}, the surest first")
        with st.container(height=GALLERY_HEIGHT, border=False):
            gallery(
                [tile_of(project, pair, decided) for pair in shown],
                key=state.LEAK_PAIRS,
                label="Test rows with a copy",
                selected=selected.query,
                tile_width=84,
                on_select=lambda query: address.go(pair=query),
            )


def filters(found: Leakage, place: Place) -> None:
    """Draw the choice of verdict and labels; kept in the link."""
    from forwardinf_core.audits.leakage.records import NO_LABEL, OTHER_LABEL, SAME_LABEL, VERDICTS

    counts = found.counts()
    verdicts = ["", *[verdict for verdict in VERDICTS if counts[verdict]]]
    words = {"": f"all copies · {len(found.leaked()):,}"} | {
        verdict: f"{verdict if verdict != 'none' else 'no copy'} · {counts[verdict]:,}" for verdict in VERDICTS
    }
    labels = ["", *[one for one in (SAME_LABEL, OTHER_LABEL, NO_LABEL) if any(p.labels == one for p in found.pairs)]]
    st.session_state[state.LEAK_VERDICT] = place.verdict if place.verdict in verdicts else ""
    st.session_state[state.LEAK_LABELS] = place.labels if place.labels in labels else ""
    st.session_state[state.LEAK_OPEN] = place.is_open
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        st.segmented_control(
            "Verdict",
            verdicts,
            format_func=lambda verdict: words[verdict],
            key=state.LEAK_VERDICT,
            required=True,
            on_change=lambda: address.go(verdict=st.session_state[state.LEAK_VERDICT], pair=""),
        )
        st.selectbox(
            "Labels",
            labels,
            format_func=lambda one: one or "any",
            key=state.LEAK_LABELS,
            width=170,
            on_change=lambda: address.go(labels=st.session_state[state.LEAK_LABELS], pair=""),
        )
        st.toggle(
            "Undecided only",
            key=state.LEAK_OPEN,
            on_change=lambda: address.go(show="open" if st.session_state[state.LEAK_OPEN] else "", pair=""),
        )


def nothing_to_show(found: Leakage, place: Place) -> None:
    """Say why there is no pair: none leaked, all decided, or none fits the filter."""
    if not len(found.leaked()) and not place.verdict:
        messages.show_empty(
            "No test row has a copy among the training rows.",
            "The likeliest look-alikes are under ‘no copy’.",
            icon=":material/verified:",
        )
    else:
        messages.show_empty("No pair is left in this filter.", "Choose another verdict, or show decided ones too.")


def tile_of(project: Project, pair: Pair, decided: Mapping[Row, Decision]) -> Tile:
    """Return the tile of one test row."""
    from forwardinf_core.audits.leakage.deciding import choice_of

    audit = project.audit
    row_id = pair.query.removeprefix("test:")
    choice = choice_of(audit, pair, decided)
    conflict = "label conflict" if pair.labels == "conflicting label" else ""
    position = audit.test.position(row_id)
    return Tile(
        id=pair.query,
        src=thumbs.address(project.ref, "test", position),
        text=texts.on_tile(audit, "test", position),
        title=class_name(audit.classes, pair.label),
        note=whole_percent(pair.score),
        badge=MARKS[choice] if choice else conflict,
        hint=f"row {row_id}: {pair.verdict}, training row {audit.train_ids[pair.train]}, {pair.labels}",
    )
