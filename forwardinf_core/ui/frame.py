"""What every page starts with: the open project and a heading."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import streamlit as st

from forwardinf_core.ui import opening, state
from forwardinf_core.ui.attribution.question import Project
from forwardinf_core.ui.navigation import DIFFUSION
from forwardinf_core.ui.wording import plain

if TYPE_CHECKING:
    from forwardinf_core.audits.audit import Audit
    from forwardinf_core.audits.generation.tracing import GenerationAudit
    from forwardinf_core.audits.tracing.audit import TracingAudit

ROOT = Path(__file__).resolve().parents[2]
PAGES, ASSETS = ROOT / "pages", ROOT / "assets"
ATTRIBUTION = PAGES / "attribution.py"
GENERATION = PAGES / "generation.py"


@dataclass(frozen=True, slots=True)
class TracingProject:
    """An open project of a language model and the name its addresses go by."""

    audit: TracingAudit
    ref: str


@dataclass(frozen=True, slots=True)
class GenerationProject:
    """An open project of a diffusion model and the name its addresses go by."""

    audit: GenerationAudit
    ref: str


def is_about_generation() -> bool:
    """Say whether the open project has a diffusion model, for pages that serve more than one task."""
    opened = opening.current()
    return opened.audit is not None and opened.audit.task in DIFFUSION


def project() -> Project:
    """Return the open project. The shell draws a page only when there is one."""
    opened = opening.current()
    if opened.audit is None:
        st.stop()
    return Project(cast("Audit", opened.audit), opened.project_ref)


def tracing() -> TracingProject:
    """Return the open project of a language model. The shell draws a page for its tasks alone."""
    opened = opening.current()
    if opened.audit is None:
        st.stop()
    return TracingProject(cast("TracingAudit", opened.audit), opened.project_ref)


def generation() -> GenerationProject:
    """Return the open project of a diffusion model. The shell draws a page for its tasks alone."""
    opened = opening.current()
    if opened.audit is None:
        st.stop()
    return GenerationProject(cast("GenerationAudit", opened.audit), opened.project_ref)


def heading(title: str, words: str) -> None:
    """Draw the page's title with one quiet line under it."""
    with st.container(gap="xxsmall"):
        st.title(plain(title), anchor=False)
        if words:
            st.markdown(f":gray[{plain(words)}]")


def redraw() -> None:
    """Draw the page's own fragment again, and nothing else. For the end of a callback: does not return."""
    st.rerun(state.SCREEN)
