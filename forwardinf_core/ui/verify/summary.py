"""The traffic lights on a screen: what is known of how far answers can be trusted, and the way to find out more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import streamlit as st

from forwardinf_core.ui import address, frame, state, thumbs
from forwardinf_core.ui.attribution.question import Project, Question
from forwardinf_core.ui.components.lights import Lamp, lights

if TYPE_CHECKING:
    from forwardinf_core.audits.audit import Audit
    from forwardinf_core.verification.checks import Light

VERIFY = frame.PAGES / "verify.py"


def lamps_of(found: Sequence[Light]) -> list[Lamp]:
    """Return the lights as they are drawn; grey ones call for a check."""
    return [
        Lamp(
            name=light.name,
            title=light.title,
            colour=light.colour,
            figure=light.shown,
            sentence=light.meaning,
            hint=light.rule,
            call="Check it" if light.colour == "grey" else "",
        )
        for light in found
    ]


def project_lights(project: Project, *, key: str, columns: int) -> None:
    """Draw the lights of a project; choosing a grey one leads to where it is checked."""
    from forwardinf_core.verification import lights as service

    token = thumbs.token_of(project.ref)
    found = _project_lights(token, service.stamp(project.audit), project.audit)
    chosen = lights(lamps_of(found), key=key, label="Checks of this project's answers", columns=columns)
    part = next((light.part for light in found if light.name == chosen), "")
    if part:
        st.switch_page(VERIFY, query_params={"part": part})


@st.cache_resource(max_entries=8, show_spinner=False)
def _project_lights(token: str, stamp: str, _audit: Audit) -> tuple[Light, ...]:  # noqa: ARG001  # what it depends on
    from forwardinf_core.verification import lights as service

    return tuple(service.brief(light) for light in service.lights(_audit))


def trust(project: Project) -> None:
    """Draw the lights under their heading, for the overview."""
    with st.container(gap="xxsmall"):
        st.subheader("Can the answers be trusted?", anchor=False)
        st.caption("What has been checked here, on this model and these rows.")
    project_lights(project, key=state.LIGHTS, columns=3)


def does_it_hold(question: Question) -> None:
    """Draw the way from an answer to its check by retraining: one click."""
    if st.button(
        "Does it hold?",
        key=state.CHECK_ANSWER,
        icon=":material/verified_user:",
        help="Retrains the last layer without the most helpful rows and looks at this query again: a few seconds.",
    ):
        named = address.read()
        link = {"query": question.query, "target": named.target, "method": named.method}
        st.switch_page(VERIFY, query_params={"part": "removal", **{key: value for key, value in link.items() if value}})


def trust_of_answers(project: Project) -> None:
    """Draw the lights under an answer."""
    st.markdown("#### Checked on this project", anchors=False)
    project_lights(project, key=state.LIGHTS, columns=3)
