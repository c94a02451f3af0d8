"""Whether the figures are estimates, and the way to measure them by retraining."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from forwardinf_core.ui import messages, state
from forwardinf_core.ui.attribution.question import Project
from forwardinf_core.ui.work.waiting import follow, newest

if TYPE_CHECKING:
    from forwardinf_core.audits.memorization.records import Memorization


def reference_part(project: Project, found: Memorization) -> None:
    """Say what stands behind the figures; where it is an estimate, offer to retrain, or watch it."""
    from forwardinf_core.audits.memorization.finding import REFERENCE_KIND, ReferenceOptions
    from forwardinf_core.verification.recipes import can_be_retrained

    if found.reference is not None:
        networks = int((found.reference.n_with + found.reference.n_without).max())
        st.caption(
            f":material/verified: Measured: {networks} networks were trained on random halves of the rows "
            "(Feldman and Zhang, 2020). The rank is theirs."
        )
        return
    job = newest(project.audit.folder, REFERENCE_KIND)
    if job is not None:
        follow(project.ref, job, "Retraining on random halves")
        if job.is_active:
            return
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.caption(
            ":material/info: An estimate, from each row's influence on itself through the last layer; nothing was "
            "retrained."
        )
        if can_be_retrained(project.audit):
            st.button(
                f"Measure it: retrain {ReferenceOptions().networks} networks",
                key=state.MEM_RETRAIN,
                icon=":material/model_training:",
                type="tertiary",
                on_click=start,
                args=(project,),
            )


def start(project: Project) -> None:
    """Hand the retraining to the worker."""
    from forwardinf_core.audits.memorization import finding

    with messages.guard():
        finding.start(project.audit, reference=True)
