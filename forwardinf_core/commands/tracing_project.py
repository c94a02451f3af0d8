"""PROJECT on the command line as an open project of a language model, its demo built where it is not there yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from forwardinf_core.errors import ProjectError

if TYPE_CHECKING:
    from forwardinf_core.audits.tracing.audit import TracingAudit


def opened(given: str, report: Callable[[float, str], None]) -> TracingAudit:
    """Return the project's audit. Raises ProjectError where its model is no language model."""
    from forwardinf_core.audits.opening import ensure_demo
    from forwardinf_core.audits.tracing.opening import load_tracing
    from forwardinf_core.jobs.run import run_here
    from forwardinf_core.projects.language import language_task_of
    from forwardinf_core.projects.load import DEMO_PREFIX

    if given.startswith(DEMO_PREFIX):
        ensure_demo(given.removeprefix(DEMO_PREFIX), run_here, report)
    if language_task_of(given) is None:
        raise ProjectError(
            "The model of this project is no language model.", hint="Ask with: python -m forwardinf_core attribute"
        )
    return load_tracing(given)
