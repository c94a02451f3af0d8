"""Whether the figures are estimates, and the way to measure them by retraining."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from forwardinf_core.ui import state
from forwardinf_core.ui.attribution.question import Project
from forwardinf_core.ui.work.cost import cost_of, start_button
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
            measure_it(project, ReferenceOptions().networks)


def measure_it(project: Project, networks: int) -> None:
    """Draw what the retraining costs and the button that starts it, behind one more click: it is long."""
    from forwardinf_core.audits.costs import dry_run_of, of_trainings

    with st.popover("Measure it", icon=":material/model_training:", type="tertiary"):
        st.markdown(f"**{networks} networks** are trained on random halves of the rows, on this machine.")
        cost = cost_of(dry_run_of(project.audit), lambda rates: of_trainings(project.audit, networks, rates, share=0.5))
        start_button(
            "Start", cost, key=state.MEM_RETRAIN, icon=":material/play_arrow:", on_click=lambda: start(project)
        )


def start(project: Project) -> None:
    """Hand the retraining to the worker."""
    from forwardinf_core.audits.memorization import finding

    finding.start(project.audit, reference=True)
