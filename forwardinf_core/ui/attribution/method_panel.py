"""How the answer was made, in plain words, and the controls that say how far to trust it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from forwardinf_core.ui import address, state
from forwardinf_core.ui.attribution.question import Project, is_quick
from forwardinf_core.ui.wording import duration, plain, signed

if TYPE_CHECKING:
    from forwardinf_core.audits.records import Attribution

WORDS_OF_OPTIONS = {
    "direction": "Ascent makes the query's loss larger, descent smaller, central takes the difference of both.",
    "damping": "How much the curvature is smoothed. Larger is steadier and blunter.",
    "rise": "How far the step moves the query's log-odds. The step's length is set by it.",
    "steps": "How many steps are taken on the query.",
}


def method_panel(project: Project, answer: Attribution) -> None:
    """Draw the choice of the method with its plain words and every option it used."""
    infos = project.audit.methods()
    known = {info.name: info for info in infos}
    with st.container(border=True, height="stretch", gap="xsmall"):
        st.markdown("**How it was scored**")
        usable = [info.name for info in infos if info.available]
        st.session_state[state.METHOD] = answer.method.name
        st.selectbox(
            "Method",
            usable if answer.method.name in usable else [answer.method.name, *usable],
            format_func=lambda name: choice_of(project, known[name].title if name in known else name, name),
            key=state.METHOD,
            on_change=lambda: address.go(method=st.session_state[state.METHOD]),
            label_visibility="collapsed",
        )
        if answer.method.name in known:
            st.caption(plain(known[answer.method.name].plain_words))
        with st.expander("Every option", type="compact"):
            for name, value in answer.method.options.items():
                st.caption(f"{plain(name)}: `{value}`", help=WORDS_OF_OPTIONS.get(name))
            missing = [info for info in infos if not info.available]
            for info in missing:
                st.caption(f"{plain(info.title)} is not available: {plain(info.why_not)}")


def choice_of(project: Project, title: str, name: str) -> str:
    """Return a method as it is offered: with the time it takes, where that is long."""
    from forwardinf_core.audits.costs import of_method
    from forwardinf_core.jobs.forecast import in_words

    cost = None if is_quick(project, name) else of_method(project.audit, name)
    return title if cost is None or cost.seconds is None else f"{title} · about {in_words(cost.seconds)}"


def controls_panel(answer: Attribution) -> None:
    """Draw the controls: an unchanged model scores 0, what the step did to the query, and where the time went."""
    with st.container(border=True, height="stretch", gap="xsmall"):
        st.markdown("**Can it be trusted?**")
        if answer.unchanged_max_abs_score == 0:
            st.markdown(
                f":green[:material/check_circle:] An unchanged model scores exactly 0 on {checked_rows(answer)}.",
                help="The same computation, with no step taken: any other number would be an error of ours.",
            )
        else:
            st.markdown(
                f":red[:material/error:] An unchanged model scores up to {signed(answer.unchanged_max_abs_score)}: "
                "do not trust these scores."
            )
        before, after = answer.method.loss_before, answer.method.loss_after
        st.markdown(
            f":gray[:material/trending_{'up' if after > before else 'down'}:] The step moved the query's loss from "
            f"**{before:.3g}** to **{after:.3g}**.",
            help="The model's own weights are never changed: the step is taken on a copy.",
        )
        phases = " · ".join(f"{plain(name)} {duration(seconds)}" for name, seconds in answer.seconds.items())
        st.markdown(f":gray[:material/timer:] {duration(sum(answer.seconds.values()))} in all")
        st.caption(phases)


def checked_rows(answer: Attribution) -> str:
    """Say on how many rows the unchanged model was scored."""
    every = answer.unchanged_rows >= len(answer.scores.score)
    return "every row" if every else f"the {answer.unchanged_rows:,} rows checked"
