"""The overview of a diffusion project: sizes, the classes the model paints, and the way to a first picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from forwardinf_core.ui import frame, state, thumbs
from forwardinf_core.ui.components.gallery import Tile, gallery
from forwardinf_core.ui.frame import GenerationProject
from forwardinf_core.ui.generation.question import USUAL_STEPS
from forwardinf_core.ui.wording import counted, plain, size

if TYPE_CHECKING:
    from forwardinf_core.audits.generation.facts import Facts

SAMPLES = 24
KINDS = {"class": "by class", "none": "without a condition", "text": "from a prompt"}


def overview(project: GenerationProject) -> None:
    """Draw the overview."""
    from forwardinf_core.audits.generation.facts import facts_of

    found = facts_of(project.audit)
    frame.heading(found.name, found.origin)
    sizes(found)
    pictures, side = st.columns([2.1, 1], gap="large")
    with pictures:
        if len(found.classes) > 1:
            classes(project, found)
        else:
            samples(project)
    with side:
        next_step(project)
        planted(found)
        model(project, found)


def sizes(found: Facts) -> None:
    """Draw the sizes."""
    first, second, third, fourth = st.columns(4)
    first.metric("Training images", f"{found.n_train:,}", border=True, height="stretch")
    second.metric("Test images", f"{found.n_test:,}", border=True, height="stretch")
    third.metric("Classes", f"{len(found.classes):,}" if found.classes else "none", border=True, height="stretch")
    fourth.metric(
        "Picture size",
        f"{found.size[0]} × {found.size[1]}",
        border=True,
        height="stretch",
        help=f"Width and height, with {counted(found.channels, 'channel')}, of what the model takes the noise from: "
        "pixels, or latents of an autoencoder.",
    )


def classes(project: GenerationProject, found: Facts) -> None:
    """Draw one training image of each class; where the model paints by class, choosing one has it painted."""
    paints = project.audit.model.condition == "class"
    with st.container(gap="xxsmall"):
        st.subheader("By class", anchor=False)
        st.caption(
            "A training image of each class, and how many there are. Choose one to have the model paint it."
            if paints
            else "A training image of each class, and how many there are."
        )
    picked = gallery(
        [
            Tile(
                id=line.name,
                src=thumbs.source(project.audit, project.ref, "train", line.first),
                title=line.name,
                note=f"{line.n_train:,}",
                hint=f"{line.name}: {counted(line.n_train, 'training image')}, {counted(line.n_test, 'test image')}",
            )
            for line in found.classes
            if line.first >= 0
        ],
        key=state.GEN_CLASSES,
        label="Classes",
        tile_width=104,
        follow=False,
    )
    if picked and paints and picked in project.audit.classes:
        steps = str(min(USUAL_STEPS, project.audit.model.n_timesteps))
        st.switch_page(frame.GENERATION, query_params={"prompt": picked, "seed": "0", "steps": steps})


def samples(project: GenerationProject) -> None:
    """Draw the first training images."""
    st.subheader("Training images", anchor=False)
    picked = gallery(
        [
            Tile(id=name, src=thumbs.source(project.audit, project.ref, "train", place), title="", hint=name)
            for place, name in enumerate(project.audit.train_ids[:SAMPLES])
        ],
        key=state.GEN_SAMPLES,
        label="Training images",
        tile_width=84,
        follow=False,
    )
    if picked:
        st.switch_page(frame.GENERATION, query_params={"picture": f"train:{picked}"})


def next_step(project: GenerationProject) -> None:
    """Draw the one thing to do next."""
    with st.container(border=True, gap="xsmall"):
        st.markdown("**Next step**")
        how = KINDS.get(project.audit.model.condition, "")
        st.caption(f"The model paints {how}. Have it paint a picture, and see which training images made it.")
        st.page_link(frame.GENERATION, label="Open Generation tracing", icon=":material/arrow_forward:")


def planted(found: Facts) -> None:
    """Say openly what was planted in the data."""
    if not found.planted:
        return
    with st.container(border=True, gap="xsmall"):
        st.markdown("**Planted on purpose**", help="So that you can see whether the answers are right.")
        for sentence in found.planted:
            st.caption(f":material/flag: {plain(sentence)}")


def model(project: GenerationProject, found: Facts) -> None:
    """Say what the model is and what is kept for it."""
    with st.container(border=True, gap="xsmall"):
        st.markdown("**The model**")
        kind = KINDS.get(project.audit.model.condition, "")
        st.caption(f":material/brush: Paints {kind}, {found.n_timesteps:,} noise levels")
        st.caption(f":material/memory: {found.n_parameters:,} parameters ({plain(project.audit.model.kind)})")
        if found.cache_bytes:
            st.caption(f":green[:material/check_circle:] {size(found.cache_bytes)} computed already")
        else:
            st.caption(":gray[:material/schedule:] Nothing computed yet; the first trace prepares what it needs")
