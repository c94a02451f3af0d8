"""Canaries and controls: what was planted and found again, and what must not matter and does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import streamlit as st

from forwardinf_core.ui import address, messages, state
from forwardinf_core.ui.attribution.question import Project
from forwardinf_core.ui.components.lights import lights
from forwardinf_core.ui.verify.summary import lamps_of
from forwardinf_core.ui.work.cost import cost_of, start_button
from forwardinf_core.ui.work.waiting import follow, newest

if TYPE_CHECKING:
    from forwardinf_core.verification.canaries import CanaryOptions
    from forwardinf_core.verification.canaries import Scope as CanaryScope
    from forwardinf_core.verification.checks import Check, Light

SCOPES = ("head", "model")
CANARY_TRAININGS = 2
SCOPE_WORDS = {"head": "Last layer", "model": "Whole network"}
PLANTING = (
    "In a copy of the training rows, 25 test rows are added with their right label and 5% of the labels are made "
    "wrong. Your rows stay as they are. The copy is trained, and the planted rows must be found again."
)


def checks_part(project: Project) -> None:
    """Draw the canaries of the head or of the whole network, and the controls."""
    named = address.link().get("scope", "")
    st.session_state[state.CANARY_SCOPE] = named if named in SCOPES else SCOPES[0]
    with st.container(gap="xxsmall"):
        st.subheader("Canaries", anchor=False)
        st.caption(PLANTING)
    scope = st.segmented_control(
        "Train on the copy",
        SCOPES,
        format_func=SCOPE_WORDS.__getitem__,
        key=state.CANARY_SCOPE,
        required=True,
        on_change=lambda: address.go(scope=st.session_state[state.CANARY_SCOPE]),
        help="The last layer on the model's own features, or the whole network, twice from different seeds.",
    )
    with messages.guard():
        canaries(project, str(scope))
    with messages.guard():
        controls(project)


def canaries(project: Project, scope: str) -> None:
    """Draw what was found of what was planted, or the way to find out."""
    from forwardinf_core.audits.costs import dry_run_of, of_trainings
    from forwardinf_core.verification import canaries as service

    options = service.canary_options(project.audit, cast("CanaryScope", scope))
    found = service.stored_canaries(project.audit, options)
    if found is not None:
        draw([check for check in found if check.recall is not None], key=state.CANARIES, label="Canaries")
        more = [check for check in found if check.recall is None]
        if scope == "model":
            st.markdown(f"**Controls of the method {options.method}, and of another training**")
            draw(more, key=f"{state.CANARIES}-controls", label="Controls of the whole network")
        return
    job = newest(project.audit.folder, service.KIND, options)
    if job is not None:
        follow(project.ref, job)
        return
    instant = service.is_instant(project.audit, options)

    def start() -> None:
        (service.check_canaries if instant else service.start_canaries)(project.audit, options)

    with st.container(border=True, gap="small"):
        st.markdown(words_of(project, options))
        cost = None
        if scope == "model":
            cost = cost_of(
                dry_run_of(project.audit), lambda rates: of_trainings(project.audit, CANARY_TRAININGS, rates)
            )
        start_button("Plant and look", cost, key=state.START_CANARIES, icon=":material/egg:", on_click=start)


def words_of(project: Project, options: CanaryOptions) -> str:
    """Say what the work is."""
    from forwardinf_core.verification import canaries as service

    if service.is_instant(project.audit, options):
        return "Nothing planted yet. It takes a few seconds."
    if options.scope == "head":
        return "Nothing planted yet. The last layer is refitted in the background."
    return "Nothing planted yet. Two trainings of the whole network and their scores, in the background."


def controls(project: Project) -> None:
    """Draw the controls of the head with their figures and thresholds."""
    from forwardinf_core.verification import lights as service

    found = service.control_lights(project.audit)
    with st.container(gap="xxsmall"):
        st.subheader("Controls", anchor=False)
        st.caption("One thing changed at a time, on 20 random test rows. What must not matter should not.")
    lights(lamps_of(found), key=state.CONTROLS, label="Controls", columns=3)
    thresholds(found)


def draw(found: list[Check], *, key: str, label: str) -> None:
    """Draw checks as lights, their thresholds folded away below."""
    from forwardinf_core.verification.checks import Light

    shown = [Light.lit(check, "") for check in found]
    lights(lamps_of(shown), key=key, label=label, columns=3)
    thresholds(shown)


def thresholds(found: list[Light] | tuple[Light, ...]) -> None:
    """Draw when a light is which colour, and why."""
    rules = [light for light in found if light.rule]
    if not rules:
        return
    with st.expander("When is it green?", type="compact"):
        for light in rules:
            st.caption(f"**{light.title}.** {light.rule}")
