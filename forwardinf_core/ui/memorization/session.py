"""The finished audit a memorization screen shows, and what its link says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from forwardinf_core.ui import address, thumbs
from forwardinf_core.ui.attribution.question import Project

if TYPE_CHECKING:
    from forwardinf_core.audits.memorization.choosing import Chosen, Neighbours
    from forwardinf_core.audits.memorization.records import Memorization


@dataclass(frozen=True, slots=True)
class Place:
    """What the link says: the filter, the open row, and how many hundreds of rows are shown."""

    chosen: Chosen
    row: str
    page: int


def read(classes: tuple[str, ...]) -> Place:
    """Return what the link says now; what it cannot mean is left out."""
    from forwardinf_core.audits.memorization.choosing import Chosen

    link = address.link()
    said = {name: link.get(name, "") for name in ("label", "low", "high", "row", "page")}
    code = int(said["label"]) if said["label"].isascii() and said["label"].isdigit() else -1
    label = code if 0 <= code < len(classes) else None
    page = int(said["page"]) if said["page"].isascii() and said["page"].isdigit() else 1
    return Place(Chosen(label, _number(said["low"]), _number(said["high"])), said["row"], max(page, 1))


def memorization(project: Project) -> Memorization | None:
    """Return the finished audit of this model and these rows, or None."""
    from forwardinf_core.audits.memorization import finding

    runs = finding.finished(project.audit)
    return _memorization(thumbs.token_of(project.ref), runs, project) if runs else None


@st.cache_resource(max_entries=4, show_spinner="Opening the scores")
def _memorization(token: str, runs: tuple[str, ...], _project: Project) -> Memorization | None:  # noqa: ARG001
    from forwardinf_core.audits.memorization import finding

    return finding.find(_project.audit)


@st.cache_resource(max_entries=2, show_spinner="Placing the rows")
def neighbours(model: str, train: str, _project: Project) -> Neighbours | None:  # noqa: ARG001  # fingerprints
    """Return the space of nearest rows."""
    from forwardinf_core.audits.memorization import choosing

    return choosing.neighbours_of(_project.audit)


def _number(text: str) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None
