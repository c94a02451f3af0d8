"""Before a long trace begins: where it will not fit it waits for a person to say that it is to begin all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from forwardinf_core.errors import AuditError
from forwardinf_core.ui import messages, state
from forwardinf_core.ui.frame import TracingProject

if TYPE_CHECKING:
    from forwardinf_core.audits.tracing.methods import TraceMethod
    from forwardinf_core.audits.tracing.records import Said
    from forwardinf_core.jobs.forecast import Forecast


def cost_of_trace(project: TracingProject, method: TraceMethod) -> Forecast | None:
    """Return what an answer costs, None until the dry run is made."""
    from forwardinf_core.audits.tracing.costs import dry_run_of, of_question

    rates = dry_run_of(project.audit).measured()
    return None if rates is None else of_question(project.audit, method, rates)


def held_back(project: TracingProject, asked: Said, method: TraceMethod) -> bool:
    """Draw why work on an answer does not begin by itself, and the button that begins it; return whether it waits."""
    from forwardinf_core.audits.tracing.opening import TraceOptions
    from forwardinf_core.jobs import run as jobs

    audit = project.audit
    if audit.is_quick(method):
        return False
    question = audit.question(asked)
    mark = f"{question} {method}"
    if mark in st.session_state.get(state.CONFIRMED, set()) or audit.stored(question, method) is not None:
        return False
    cost = cost_of_trace(project, method)
    if cost is None or cost.fits or jobs.find("trace", audit.folder, TraceOptions(question, method)) is not None:
        return False
    messages.show_error(AuditError(cost.warning, hint=f"It will take {cost.brief}."))
    st.button(
        "Start it all the same",
        key=state.START_ANYWAY,
        icon=":material/play_arrow:",
        on_click=lambda: st.session_state.setdefault(state.CONFIRMED, set()).add(mark),
    )
    return True
