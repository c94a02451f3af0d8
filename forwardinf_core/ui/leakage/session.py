"""The finished audit a leakage screen shows, and what its link says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from forwardinf_core.ui import address, thumbs
from forwardinf_core.ui.attribution.question import Project

if TYPE_CHECKING:
    from forwardinf_core.audits.leakage.records import Leakage

PAIRS, GROUPS = "pairs", "groups"
PARTS = {PAIRS: "Test rows and their copies", GROUPS: "Groups of duplicates"}
NAMES = ("part", "verdict", "labels", "show", "pair", "group")


@dataclass(frozen=True, slots=True)
class Place:
    """What the link says: the part, the filter, and what is open."""

    part: str
    verdict: str
    labels: str
    is_open: bool
    pair: str
    group: str


def read() -> Place:
    """Return what the link says now."""
    link = address.link()
    said = {name: link.get(name, "") for name in NAMES}
    part = said["part"] if said["part"] in PARTS else PAIRS
    return Place(part, said["verdict"], said["labels"], said["show"] == "open", said["pair"], said["group"])


def leakage(project: Project) -> Leakage | None:
    """Return the finished audit of this model and these rows, or None."""
    from forwardinf_core.audits.leakage import report

    run_id = report.finished(project.audit)
    return None if run_id is None else _leakage(thumbs.token_of(project.ref), run_id, project)


@st.cache_resource(max_entries=4, show_spinner="Opening the pairs")
def _leakage(token: str, run_id: str, _project: Project) -> Leakage | None:  # noqa: ARG001  # they name the audit
    from forwardinf_core.audits.leakage import report

    return report.find(_project.audit)
