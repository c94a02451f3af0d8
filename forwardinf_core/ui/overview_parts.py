"""The parts of the overview screen, each drawn by one function."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import streamlit as st

from forwardinf_core.ui import frame, messages, state, texts, thumbs
from forwardinf_core.ui.attribution.question import Project
from forwardinf_core.ui.components.gallery import Tile, gallery
from forwardinf_core.ui.wording import counted, plain, size

if TYPE_CHECKING:
    from forwardinf_core.audits.overview import Confusion, Overview

CONFUSIONS_SHOWN = 24


def sizes(found: Overview) -> None:
    """Draw the sizes and the accuracy."""
    low, high = found.accuracy_interval
    known = math.isfinite(found.accuracy)
    first, second, third, fourth = st.columns(4)
    first.metric("Training rows", f"{found.n_train:,}", border=True, height="stretch")
    second.metric("Test rows", f"{found.n_test:,}", border=True, height="stretch")
    third.metric("Classes", f"{len(found.classes):,}", border=True, height="stretch")
    fourth.metric(
        "Test accuracy",
        f"{found.accuracy:.1%}" if known else "no labels",
        f"{low:.1%} to {high:.1%}" if known else None,
        delta_color="off",
        delta_arrow="off",
        border=True,
        height="stretch",
        help="Share of test rows whose label the model predicts, with its 95% interval (Wilson)." if known else None,
    )


def confusions(project: Project, found: Overview) -> None:
    """Draw the confused pairs, worst first; each opens its most confident mistake."""
    if not found.confusions:
        messages.show_empty(
            "The model gets every labelled test row right.",
            "Open Attribution to see what any prediction rests on.",
            icon=":material/verified:",
        )
        return
    with st.container(gap="xxsmall"):
        st.subheader("Where the model goes wrong", anchor=False)
        st.caption("What the label says, and what the model said instead. Choose a pair to see which rows did it.")
    shown = found.confusions[:CONFUSIONS_SHOWN]
    picked = gallery(
        [confusion_tile(project, found, pair) for pair in shown],
        key=state.CONFUSIONS,
        label="Confused classes",
        tile_width=104,
        follow=False,
    )
    if picked:
        explain(picked)


def confusion_tile(project: Project, found: Overview, pair: Confusion) -> Tile:
    """Return the tile of one confused pair, with its first example."""
    first = pair.examples[0]
    label, said = found.classes[pair.label], found.classes[pair.prediction]
    return Tile(
        id=f"test:{first}",
        src=thumbs.address(project.ref, "test", project.audit.test_ids.index(first)),
        text=texts.on_tile(project.audit, "test", project.audit.test_ids.index(first)),
        title=f"{label} \u2192 {said}",
        note=f"{pair.count}\u00d7",
        hint=f"{counted(pair.count, 'row')} labelled {label} that the model calls {said}",
    )


def explain(query: str) -> None:
    """Go to Attribution with a query that the model got wrong."""
    st.switch_page(frame.ATTRIBUTION, query_params={"query": query})


def classes(found: Overview) -> None:
    """Draw the table of classes."""
    lines = found.class_lines
    st.subheader("By class", anchor=False)
    st.dataframe(
        {
            "Class": [line.name for line in lines],
            "Training rows": [line.n_train for line in lines],
            "Test rows": [line.n_test for line in lines],
            "Accuracy": [None if math.isnan(line.accuracy) else 100 * line.accuracy for line in lines],
        },
        hide_index=True,
        column_config={
            "Accuracy": st.column_config.ProgressColumn(format="%.1f%%", min_value=0.0, max_value=100.0),
        },
        key=state.CLASS_TABLE,
    )


def next_step(found: Overview) -> None:
    """Draw the one thing to do next."""
    with st.container(border=True, gap="xsmall"):
        st.markdown("**Next step**")
        if found.confusions:
            pair = found.confusions[0]
            st.caption(
                f"The most frequent mistake: {counted(pair.count, 'row')} labelled "
                f"‘{plain(found.classes[pair.label])}’ read as ‘{plain(found.classes[pair.prediction])}’."
            )
            clicked = st.button(
                "See which rows did it",
                key=state.NEXT_STEP,
                type="primary",
                icon=":material/arrow_forward:",
                icon_position="right",
                width="stretch",
            )
            if clicked:
                explain(f"test:{pair.examples[0]}")
        else:
            st.caption("Choose any prediction and see which training rows it rests on.")
            st.page_link(frame.ATTRIBUTION, label="Open Attribution", icon=":material/arrow_forward:")


def about(found: Overview) -> None:
    """Say openly what was planted in the data."""
    if not found.planted:
        return
    with st.container(border=True, gap="xsmall"):
        st.markdown("**Planted on purpose**", help="So that you can see whether the answers are right.")
        for sentence in found.planted:
            st.caption(f":material/flag: {plain(sentence)}")


CACHE_WORDS = {
    "head": "Head: answers at once",
    "tail": "Tail: the refined answer",
    "full": "Whole network",
}


def caches(found: Overview) -> None:
    """Say what is already computed."""
    with st.container(border=True, gap="xsmall"):
        st.markdown("**Already computed**", help="What makes answers fast. It can be deleted at any time.")
        for cache in found.caches:
            icon = ":green[:material/check_circle:]" if cache.ready else ":gray[:material/schedule:]"
            amount = size(cache.bytes) if cache.ready else "when first needed"
            st.caption(f"{icon} {plain(CACHE_WORDS.get(cache.name, cache.name))} · {amount}")
