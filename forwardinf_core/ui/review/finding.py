"""Before there are suspects: start the search, or watch it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forwardinf_core.ui import state
from forwardinf_core.ui.work.offer import Offer, wait_or_offer

if TYPE_CHECKING:
    from forwardinf_core.ui.attribution.question import Project

OFFER = Offer(
    kind="mislabels",
    title="No search for wrong labels yet",
    hint="It judges every training row by models that did not learn it, by its nearest rows and by your model.",
    button="Find suspects",
    icon=":material/manage_search:",
    running="Looking for wrong labels",
    key=state.FIND_SUSPECTS,
)


def finding(project: Project) -> None:
    """Draw the search that runs, or the button that starts one."""
    from forwardinf_core.audits.mislabels.finding import start_suspects

    wait_or_offer(project, OFFER, lambda: start_suspects(project.audit))
