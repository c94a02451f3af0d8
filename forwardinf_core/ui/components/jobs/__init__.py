"""The jobs panel: what runs, how far it is, how to stop it, what has ended. It asks only while something runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from forwardinf_core.ui import components
from forwardinf_core.ui.components import beside

FOLDER = Path(__file__).parent
_JOBS = st.components.v2.component(
    "forwardinf_jobs",
    html="<section class='jobs' aria-label='Work'>\n</section>",
    css=beside(FOLDER, "jobs.css"),
    js=beside(Path(components.__file__).parent, "asking.js") + beside(FOLDER, "jobs.js"),
)


@dataclass(frozen=True, slots=True)
class Opening:
    """The result that was asked to be opened last. ``turn`` counts."""

    turn: int
    page: str
    link: dict[str, str]


def jobs(shown: Sequence[Mapping[str, object]], *, key: str, address: str) -> Opening | None:
    """Draw jobs (``work.lines.JobLine`` as records) and return the result a person asked for, if any.

    ``address`` is where the web server tells how they stand, and takes what is to become of them.
    """
    result = _JOBS(
        key=key,
        data={"address": address, "jobs": list(shown)},
        default={"open": {}},
        on_open_change=lambda: None,
    )
    asked = result.open or {}
    if not asked.get("turn"):
        return None
    link = {str(name): str(value) for name, value in dict(asked.get("link") or {}).items()}
    return Opening(int(asked["turn"]), str(asked.get("page", "")), link)
