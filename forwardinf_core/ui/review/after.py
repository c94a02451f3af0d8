"""Under the deck: what the review does to the model, the way to take it home, who agrees, and every record."""

from __future__ import annotations

from datetime import datetime

import streamlit as st

from forwardinf_core.audits.agreement import agreements
from forwardinf_core.audits.decisions import Ledger
from forwardinf_core.ui import address, messages, state
from forwardinf_core.ui.review.effect_panel import effect_panel
from forwardinf_core.ui.review.export_panel import export_panel
from forwardinf_core.ui.review.session import Desk
from forwardinf_core.ui.wording import counted, plain, share

LOG_SHOWN = 500


def after(desk: Desk, ledger: Ledger) -> None:
    """Draw the four panels; only the open one is worked out."""
    effect, export, people, log = st.tabs(
        ["Effect", "Export", "Agreement", "Audit log"], key=state.REVIEW_MORE, on_change="rerun"
    )
    with effect:
        if effect.open:
            with messages.guard():
                effect_panel(desk, ledger)
    with export:
        if export.open:
            with messages.guard():
                export_panel(desk, ledger)
    with people:
        if people.open:
            with messages.guard():
                agreement_panel(ledger)
    with log:
        if log.open:
            with messages.guard():
                log_panel(desk, ledger)


def agreement_panel(ledger: Ledger) -> None:
    """Draw how far reviewers agree, and the way to what they disagree on."""
    found = agreements(ledger)
    if not found:
        messages.show_empty(
            "Nobody else has judged the same rows yet",
            "Let a second person decide some of them, blind if you like; how far you agree shows here.",
            icon=":material/group:",
        )
        return
    st.dataframe(
        [
            {
                "Reviewers": f"{one.first} and {one.second}",
                "Rows both judged": one.rows,
                "Same verdict": share(one.same / one.rows),
                "Cohen's kappa": "not defined" if one.kappa is None else f"{one.kappa:.2f}",
            }
            for one in found
        ],
        hide_index=True,
        width="stretch",
    )
    st.caption("Kappa is 1 where verdicts are always the same and 0 where they agree as often as chance would.")
    disputed = ledger.disagreements()
    if disputed:
        st.button(
            f"Settle {counted(len(disputed), 'disagreement')}",
            key=state.SETTLE,
            icon=":material/gavel:",
            on_click=lambda: address.go(
                show="disagree", label="", suggested="", low="", high="", by="", rows="", row=""
            ),
        )


def log_panel(desk: Desk, ledger: Ledger) -> None:
    """Draw every record, the newest first."""
    records = ledger.records
    if not records:
        messages.show_empty("No decisions yet", "Every decision, undo and redo shows here.", icon=":material/history:")
        return
    names = desk.project.audit.classes
    st.dataframe(
        [
            {
                "When": datetime.fromtimestamp(one.at),
                "Reviewer": one.reviewer,
                "Row": one.row_id or "several rows",
                "Record": one.action,
                "New label": ""
                if one.label is None
                else names[one.label]
                if one.label < len(names)
                else str(one.label),
                "Comment": one.comment,
                "Suspicion": one.score,
                "Counts": ledger.counts(one.step) if one.undoes is None else None,
                "Settles": one.settles,
            }
            for one in reversed(records[-LOG_SHOWN:])
        ],
        hide_index=True,
        width="stretch",
        height=360,
    )
    total = counted(len(records), "record")
    older = f"; the newest {LOG_SHOWN} are shown" if len(records) > LOG_SHOWN else ""
    st.caption(f"{plain(total)}{older}. Records are never changed: what was taken back stays, and no longer counts.")
