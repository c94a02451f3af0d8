"""Who reviews, in this session, and the search they review."""

from __future__ import annotations

import getpass
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from forwardinf_core.ui import state, thumbs

if TYPE_CHECKING:
    from forwardinf_core.audits.review import Review
    from forwardinf_core.audits.review_items import Items
    from forwardinf_core.ui.attribution.question import Project


@dataclass(frozen=True, slots=True)
class Reviewer:
    """Who decides. ``signed_in`` names cannot be changed here; ``said`` ones were entered on this visit."""

    name: str
    signed_in: bool
    said: bool


@dataclass(frozen=True, slots=True)
class Desk:
    """A project's search for wrong labels, opened for review."""

    project: Project
    review: Review
    items: Items

    @property
    def place(self) -> str:
        """What the browser knows the project by."""
        return hashlib.sha256(str(self.project.audit.folder).encode()).hexdigest()[:16]


def reviewer() -> Reviewer:
    """Return the signed-in person, else the name entered on this visit, else this machine's user."""
    if getattr(st.user, "is_logged_in", False):
        name = st.user.get("name") or st.user.get("email") or st.user.get("sub") or "signed in"
        return Reviewer(str(name), True, True)
    said = str(st.session_state.get(state.REVIEWER_SAID, "")).strip()
    return Reviewer(said or _user(), False, bool(said))


def name_reviewer(name: str) -> None:
    """Take a name for this visit."""
    st.session_state[state.REVIEWER_SAID] = " ".join(name.split())[:100]


def is_blind() -> bool:
    """Say whether this person reviews without seeing what others decided."""
    return bool(st.session_state.get(state.BLIND_KEPT, False))


def desk(project: Project) -> Desk | None:
    """Return the newest search of this model and these rows, or None where there is none."""
    from forwardinf_core.audits.mislabels.finding import KIND
    from forwardinf_core.store.runs import list_runs

    known = tuple(run.id for run in list_runs(project.audit.project, KIND))
    return _desk(thumbs.token_of(project.ref), known, project) if known else None


@st.cache_resource(max_entries=4, show_spinner="Opening the suspects")
def _desk(token: str, runs: tuple[str, ...], _project: Project) -> Desk | None:  # noqa: ARG001  # they name the search
    from forwardinf_core.audits.mislabels.finding import find_suspects
    from forwardinf_core.audits.review import Review
    from forwardinf_core.audits.review_items import Items

    found = find_suspects(_project.audit)
    if found is None:
        return None
    review = Review(found)
    return Desk(_project, review, Items(review, _project.audit.train.digests))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a machine without names for its users
        return "reviewer"
