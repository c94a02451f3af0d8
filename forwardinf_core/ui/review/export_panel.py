"""Take the review home: what would change, and a button that writes it."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from forwardinf_core.audits.decisions import Ledger
from forwardinf_core.reports.exports.changes import Difference, changes_of, difference
from forwardinf_core.reports.exports.exporting import FORMATS, Format, export, own_format, suggested_target
from forwardinf_core.reports.exports.own_shape import safe_name
from forwardinf_core.ui import messages, state
from forwardinf_core.ui.review.session import Desk
from forwardinf_core.ui.wording import counted, plain

LINES_SHOWN = 200
DOWNLOAD_LIMIT_BYTES = 200_000_000  # it lies in memory until the page is left
EVERYBODY = ""
WORDS: dict[Format, str] = {
    "csv": "CSV",
    "jsonl": "JSON lines",
    "parquet": "Parquet",
    "datasets": "Hugging Face datasets",
    "folder": "Folder for each class",
    "cleanlab": "Table of label issues (cleanlab's columns)",
    "patch": "Patch of decisions",
}


def export_panel(desk: Desk, ledger: Ledger) -> None:
    """Draw the difference and the way to write it."""
    audit = desk.project.audit
    own = own_format(audit)
    left, right = st.columns([2, 3], gap="large")
    with left:
        formats = sorted(FORMATS, key=lambda kind: kind != own)
        kind = st.selectbox(
            "Format",
            formats,
            key=state.EXPORT_FORMAT,
            format_func=lambda one: f"{WORDS[one]}, as it came in" if one == own else WORDS[one],
        )
        people = ledger.reviewers()
        who = EVERYBODY
        if len(people) > 1:
            who = st.selectbox(
                "Decisions of",
                [EVERYBODY, *people],
                key=state.EXPORT_REVIEWER,
                format_func=lambda name: plain(name) or "everybody, where they agree",
            )
        suggested = suggested_target(audit, kind)
        name = st.text_input(
            "Name in the project's folder of exports", suggested.name, key=f"{state.EXPORT_TARGET}-{suggested.name}"
        )
        changes = changes_of(audit.train, ledger, who or None)
        if st.button("Export", key=state.EXPORT_DO, type="primary", icon=":material/save:"):
            with messages.guard(), st.spinner("Writing"):
                written(export(audit, kind, suggested.parent / safe_name(name), changes))
    with right:
        dry_run(difference(audit.train, changes, audit.classes))


def written(path: Path) -> None:
    """Say where the export is; a file of moderate size can be downloaded too."""
    st.success(f"Written: {plain(str(path))}")
    if path.is_file() and path.stat().st_size <= DOWNLOAD_LIMIT_BYTES:
        st.download_button("Download", path.read_bytes(), path.name, key=state.EXPORT_LOAD, on_click="ignore")


def dry_run(found: Difference) -> None:
    """Draw what the export changes."""
    st.markdown(
        f"**{counted(found.relabelled, 'row')} relabelled, {found.dropped:,} dropped**; "
        f"{found.rows_before:,} rows become {found.rows_after:,}. Every other row stays as it is."
    )
    notes = []
    if found.disputed:
        notes.append(f"{counted(found.disputed, 'row')} left alone: reviewers disagree.")
    if found.unsure:
        notes.append(f"{counted(found.unsure, 'row')} left alone: unsure.")
    if found.gone:
        notes.append(f"{counted(found.gone, 'decision')} on rows that are gone.")
    if notes:
        st.caption(" ".join(notes))
    if found.lines:
        st.dataframe(
            [{"Row": row, "Label": own, "New label": new} for row, own, new in found.lines[:LINES_SHOWN]],
            hide_index=True,
            width="stretch",
            height=min(260, 38 + 35 * len(found.lines)),
        )
