"""Keep an event of a page just left from emptying the page drawn since: a fault of Streamlit, mended in one place.

What a component tells while the next page is being drawn names the page the browser still shows. Streamlit runs that
fragment for the old page (or finds that it is gone), tells the browser that the old page is drawn, and the browser
clears everything else. A fragment is only ever drawn on the page that is there, so that page is named instead.
Seen with Streamlit 1.67; ``tests/browser/test_left_page.py`` fails without the mend.
"""

from __future__ import annotations

from dataclasses import replace
from functools import wraps

from streamlit.runtime.scriptrunner import ScriptRunner
from streamlit.runtime.scriptrunner_utils.script_requests import RerunData


def on_drawn_page(asked: RerunData, drawn: str) -> RerunData:
    """Return what is asked, a fragment's run for the page ``drawn`` last (hash; "" = none yet)."""
    return replace(asked, page_script_hash=drawn) if asked.fragment_id_queue and drawn else asked


def mend() -> None:
    """Let every session run fragments for the page drawn last; once a process."""
    run = ScriptRunner._run_script
    if hasattr(run, "__wrapped__"):
        return

    @wraps(run)
    def run_on_drawn_page(runner: ScriptRunner, rerun_data: RerunData) -> None:
        run(runner, on_drawn_page(rerun_data, runner._pages_manager.current_page_script_hash))

    ScriptRunner._run_script = run_on_drawn_page  # type: ignore[assignment, method-assign]
