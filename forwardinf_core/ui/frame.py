"""What every page starts with: the open project and a heading."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from forwardinf_core.ui import opening
from forwardinf_core.ui.attribution.question import Project
from forwardinf_core.ui.wording import plain

ROOT = Path(__file__).resolve().parents[2]
PAGES, ASSETS = ROOT / "pages", ROOT / "assets"
ATTRIBUTION = PAGES / "attribution.py"


def project() -> Project:
    """Return the open project. The shell draws a page only when there is one."""
    opened = opening.current()
    if opened.audit is None:
        st.stop()
    return Project(opened.audit, opened.project_ref)


def heading(title: str, words: str) -> None:
    """Draw the page's title with one quiet line under it."""
    with st.container(gap="xxsmall"):
        st.title(plain(title), anchor=False)
        if words:
            st.markdown(f":gray[{plain(words)}]")
