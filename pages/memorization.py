"""Memorization: which rows does the model know only because it saw them?"""

from forwardinf_core.audits.memorization import finding
from forwardinf_core.audits.tracing import memorization as of_texts
from forwardinf_core.ui import frame, messages, navigation, opening, state
from forwardinf_core.ui.memorization import session, texts
from forwardinf_core.ui.memorization.reference import reference_part
from forwardinf_core.ui.memorization.rows import filters, rows_part
from forwardinf_core.ui.work.offer import Offer, wait_or_offer


def offer(kind: str, what: str) -> Offer:
    """Return what is offered before anything was scored."""
    return Offer(
        kind=kind,
        title="Memorization has not been scored yet",
        hint=f"Every training {what} is asked how much the model's answer on it leans on that very {what}.",
        button=f"Score the {what}s",
        icon=":material/psychology:",
        running=f"Scoring the {what}s",
        key=state.MEM_START,
    )


def rows_screen() -> None:
    """Draw the rows of a classifier."""
    project = frame.project()
    found = session.memorization(project)
    if found is None:
        wait_or_offer(project, offer(finding.KIND, "row"), lambda: finding.start(project.audit))
        return
    place = session.read(project.audit.classes)
    reference_part(project, found)
    filters(project, found, place)
    rows_part(project, found, place)


def texts_screen() -> None:
    """Draw the texts of a language model."""
    project = frame.tracing()
    found = texts.memorized(project)
    if found is None:
        wait_or_offer(project, offer(of_texts.KIND, "text"), lambda: of_texts.start(project.audit))
        return
    texts.texts_part(project, found, session.read(()))


opened = opening.current()
is_language = opened.audit is not None and opened.audit.task in navigation.LANGUAGE
what = "texts" if is_language else "rows"
frame.heading("Memorization", f"Which training {what} does the model know only because it saw them?")
with messages.guard():
    (texts_screen if is_language else rows_screen)()
