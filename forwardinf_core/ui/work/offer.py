"""Before an audit has a finished run: say what it would find out and what that costs, start it, and watch it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from forwardinf_core.ui import messages
from forwardinf_core.ui.frame import TracingProject
from forwardinf_core.ui.work.cost import cost_of, start_button
from forwardinf_core.ui.work.waiting import follow, newest

if TYPE_CHECKING:
    from forwardinf_core.jobs.forecast import Forecast
    from forwardinf_core.ui.attribution.question import Project


@dataclass(frozen=True, slots=True)
class Offer:
    """What a person is offered: words while nothing runs, the button, and words while it runs."""

    kind: str  # of the job
    title: str
    hint: str
    button: str
    icon: str
    running: str
    key: str  # of the button


def wait_or_offer(project: Project | TracingProject, offer: Offer, start: Callable[[], object]) -> None:
    """Draw the job that runs; or why the last one stopped, and the button that starts one."""
    job = newest(project.audit.folder, offer.kind)
    if job is not None:
        follow(project.ref, job, offer.running)
        if job.is_active:
            return
    messages.show_empty(offer.title, offer.hint, icon=offer.icon)
    start_button(
        offer.button, cost_of_offer(project, offer.kind), key=offer.key, icon=":material/search:", on_click=start
    )


def cost_of_offer(project: Project | TracingProject, kind: str) -> Forecast | None:
    """Draw what the work will cost, and return it."""
    if isinstance(project, TracingProject):
        from forwardinf_core.audits.tracing import costs as of_texts
        from forwardinf_core.audits.tracing.memorization import options_of

        texts, chosen = project.audit, options_of()
        return cost_of(of_texts.dry_run_of(texts), lambda rates: of_texts.of_memorization(texts, chosen, rates))
    from forwardinf_core.audits import costs

    audit = project.audit
    return cost_of(costs.dry_run_of(audit), lambda rates: costs.of_audit(audit, kind, rates))
