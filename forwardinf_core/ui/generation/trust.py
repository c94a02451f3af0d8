"""How the answer was made, in plain words, how far to trust it, and what whole groups of images did."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from forwardinf_core.ui import address, state
from forwardinf_core.ui.components.bars import bars
from forwardinf_core.ui.frame import GenerationProject
from forwardinf_core.ui.generation.listing import GROUPS_AT_EACH_END, group_bars
from forwardinf_core.ui.generation.question import Link, read
from forwardinf_core.ui.wording import counted, duration, plain, signed

if TYPE_CHECKING:
    from forwardinf_core.audits.generation.ranking import Ranking
    from forwardinf_core.audits.generation.records import Generation

SHORTLISTS = {"": "All images", "0.25": "The most alike quarter", "0.1": "The most alike tenth"}
MIRRORED = " Half of the looks at a training image are at its mirror image, as the model was trained."
WORDS_OF_OPTIONS = {
    "rise": "How far the step raises the picture's mean loss, as a share of it.",
    "draws": "At how many noise levels each training image is looked at.",
    "second_draws": "At how many other noise levels the images at both ends are looked at again; 0 = not again.",
    "second_share": "Share of the images at each end that is looked at again, and takes its score from that.",
    "third_draws": "At how many further noise levels the very first and last are looked at once more; 0 = not.",
    "third_share": "Share of the images at each end that is looked at once more, and takes its score from that.",
    "query_draws": "At how many noise levels the picture is looked at when the step is taken.",
    "damping": "How much the curvature is smoothed. Larger is steadier and blunter.",
    "seed": "Noise and levels follow from it and from each image's id alone: the same for both models.",
    "shortlist": "Share of the training images, the most alike ones, that were scored.",
    "parameters": "Which weights may move; None = all.",
}


def method_panel(project: GenerationProject, found: Generation) -> None:
    """Draw the choice of the method and of the images scored, with every option."""
    from forwardinf_core.audits.generation.methods import METHODS, PLAIN_WORDS, TITLES

    name = str(found.options.get("name"))
    share = found.options.get("shortlist")
    with st.container(border=True, height="stretch", gap="xsmall"):
        st.markdown("**How it was scored**")
        st.session_state[state.GEN_METHOD] = name
        st.selectbox(
            "Method",
            list(METHODS) if name in METHODS else [name, *METHODS],
            format_func=lambda each: TITLES.get(each, each),
            key=state.GEN_METHOD,
            on_change=lambda: changed(project, found, method=st.session_state[state.GEN_METHOD]),
            label_visibility="collapsed",
        )
        st.caption(plain(PLAIN_WORDS.get(name, "")) + (MIRRORED if project.audit.mirrors else ""))
        now = "" if share is None else f"{share:g}"
        st.session_state[state.GEN_SHORTLIST] = now
        st.selectbox(
            "Images scored",
            list(SHORTLISTS) if now in SHORTLISTS else [now, *SHORTLISTS],
            format_func=lambda each: SHORTLISTS.get(each, f"The most alike {each}"),
            key=state.GEN_SHORTLIST,
            on_change=lambda: changed(project, found, shortlist=st.session_state[state.GEN_SHORTLIST]),
            help="A shortlist is quicker, and misses what matters without looking alike: such images get no score.",
        )
        with st.expander("Every option", type="compact"):
            for option, value in found.options.items():
                st.caption(f"{plain(option)}: `{value}`", help=WORDS_OF_OPTIONS.get(option))


def changed(project: GenerationProject, found: Generation, **change: str) -> None:
    """Ask the same picture another way. A run in the link stands for its own options: the picture is named instead."""
    if read().run:
        prompt = project.audit.name_of(found.picture.label) or ""
        change |= {"run": "", "picture": found.picture.query, "prompt": prompt}
    address.go(**change)


def controls_panel(found: Generation) -> None:
    """Draw the controls: an unchanged model scores 0, what the step did, the time, and the run's own link."""
    with st.container(border=True, height="stretch", gap="xsmall"):
        st.markdown("**Can it be trusted?**")
        if found.unchanged_max_abs_score == 0:
            st.markdown(
                ":green[:material/check_circle:] An unchanged model scores exactly 0 on the images checked.",
                help="The same computation, with no step taken: any other number would be an error of ours.",
            )
        else:
            st.markdown(
                f":red[:material/error:] An unchanged model scores up to {signed(found.unchanged_max_abs_score)}: "
                "do not trust these scores."
            )
        before, after = found.loss_before, found.loss_after
        st.markdown(
            f":gray[:material/trending_{'up' if after > before else 'down'}:] The step moved the picture's loss from "
            f"**{before:.3g}** to **{after:.3g}**.",
            help="The model's own weights are never changed: the step is taken on a copy.",
        )
        if found.options.get("step") == "released":
            st.markdown(":gray[:material/info:] This recipe drops the sign: it cannot tell helped from hurt.")
        st.markdown(f":gray[:material/timer:] {duration(found.seconds)} in all")
        st.caption(
            "A score is a prediction of what learning the image does. Whether it holds is for retraining to say."
        )
        st.caption(f":material/link: Run `{found.run_id}`; the address of this page leads here again.")


def groups_panel(project: GenerationProject, ranking: Ranking, link: Link) -> None:
    """Draw what the images of each class, or of each value of a column, did together."""
    from forwardinf_core.audits.generation.facts import group_columns, group_values
    from forwardinf_core.audits.generation.ranking import groups_of

    columns = group_columns(project.audit)
    with st.container(border=True, gap="xsmall"):
        st.markdown("**Groups of images**", help="The scores of a group's images, summed.")
        if not columns:
            st.caption("These images have no class, artist, source or other column to group by.")
            return
        st.session_state[state.GEN_GROUP] = link.column if link.column in columns else columns[0]
        chosen = st.selectbox(
            "Group by",
            columns,
            key=state.GEN_GROUP,
            on_change=lambda: address.go(column=st.session_state[state.GEN_GROUP]),
            label_visibility="collapsed",
        )
        groups = groups_of(ranking, group_values(project.audit, chosen))
        bars(group_bars(groups), key=state.GEN_GROUPS, label=f"Groups by {chosen}", zero=0.5)
        if len(groups) > 2 * GROUPS_AT_EACH_END:
            st.caption(f"The {GROUPS_AT_EACH_END} at either end of {counted(len(groups), 'group')}.")
