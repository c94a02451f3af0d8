"""Components where Streamlit has none: one folder each, a typed wrapper with its script and style beside it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path

from streamlit.runtime.scriptrunner import get_script_run_ctx


def beside(folder: Path, name: str) -> str:
    """Return the text of a component's script or style."""
    return (folder / name).read_text(encoding="utf-8")


def on_its_page(changed: Callable[[], None]) -> Callable[[], None]:
    """Make a callback silent once another page has been asked for.

    Until the browser hears that a new page is finished, it goes on sending what the components of the old one hold, and
    Streamlit takes that for a change: even at the start of the new page's run, which it would end.
    """
    drawn_on = _page()

    @wraps(changed)
    def on_page() -> None:
        if _page() == drawn_on:
            changed()

    return on_page


def _page() -> str:
    """Return the page this run is for (hash; "" = not in a run)."""
    run = get_script_run_ctx(suppress_warning=True)
    return run.page_script_hash if run is not None else ""
