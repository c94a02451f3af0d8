"""One training image opened: what it is, what it did, how alike it is, and at which noise levels it mattered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from forwardinf_core.ui import state, thumbs
from forwardinf_core.ui.components.picture import picture
from forwardinf_core.ui.frame import GenerationProject
from forwardinf_core.ui.generation.listing import class_of, rank_among, whole
from forwardinf_core.ui.generation.noise_chart import noise_chart
from forwardinf_core.ui.generation.question import ask_for
from forwardinf_core.ui.wording import effect, plain, signed, standing

if TYPE_CHECKING:
    from forwardinf_core.audits.generation.ranking import Ranking
    from forwardinf_core.audits.generation.records import Generation


def detail(project: GenerationProject, found: Generation, ranking: Ranking, position: int | None) -> None:
    """Draw the opened row."""
    from forwardinf_core.audits.generation.ranking import profile_of

    with st.container(border=True, key=state.GEN_ROW):
        if position is None:
            st.caption("The link names a training image that this project does not have. Choose one above to open it.")
            return
        own = project.audit.train_ids[position]
        image, words, chart = st.columns([0.75, 1.35, 1.9], gap="medium")
        with image:
            picture(
                thumbs.address(project.ref, "train", position),
                key=state.GEN_ROW_PICTURE,
                alt=f"training image {own}",
                width=150,
            )
        with words, st.container(gap="xsmall"):
            describe(project, found, ranking, position)
        with chart, st.container(gap="xsmall"):
            profile = profile_of(found, position)
            if profile is None:
                st.caption("This image was not looked at: it lies outside the shortlist.")
            else:
                noise_chart(profile, project.audit.model.n_timesteps, key=state.GEN_NOISE)


def describe(project: GenerationProject, found: Generation, ranking: Ranking, position: int) -> None:
    """Say what the row is and what it did."""
    from forwardinf_core.audits.generation.facts import planted

    own, label, place = project.audit.train_ids[position], class_of(project, position), ranking.place(position)
    captions = project.audit.captions[position] if project.audit.captions else ()
    named = "" if any(captions) or not label else f", class **{plain(label)}**"
    st.markdown(f"**{plain(own)}**{named}")
    for caption in filter(None, captions):
        st.caption(f"“{plain(caption)}”")
    if place is None:
        st.markdown(":gray[**Not scored**]: only the most alike images were.")
    else:
        score = float(ranking.scores.score[place])
        word = effect(score)
        colour = {"helped": "green", "hurt": "red"}.get(word, "gray")
        stands = standing(score, float(ranking.scores.percentile[place]))
        st.markdown(f":{colour}[**{word.capitalize()}**]: {stands} of {whole(ranking)}.")
        st.caption(f"Score {signed(score)} · own loss {float(ranking.scores.base_loss[place]):.3g}")
    st.caption(
        f"Of all {len(found.pixel):,}, number {rank_among(found.pixel, position):,} by pixels and number "
        f"{rank_among(found.feature, position):,} by the model's features."
    )
    known = planted(project.audit, position)
    if known:
        st.badge(
            plain(known), icon=":material/flag:", color="orange", help="Planted on purpose when the demo was made."
        )
    st.button(
        "Ask about this image",
        key=state.GEN_ROW_ASK,
        type="tertiary",
        icon=":material/image_search:",
        help="Trace the training image itself: it should come first.",
        on_click=ask_for,
        kwargs={"picture": f"train:{own}"},
    )
