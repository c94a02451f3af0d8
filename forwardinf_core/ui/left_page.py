"""Keep an event of a page just left from emptying the page drawn since: a fault of Streamlit, mended in one place.

What a component tells while the next page is being drawn names the page the browser still shows. Streamlit runs that
fragment for the old page (or finds that it is gone), tells the browser that the old page is drawn, and the browser
clears everything else. So a fragment that is gone is not run, and one that stayed is run for the page that is there.
Seen with Streamlit 1.67; ``tests/browser/test_left_page.py`` fails without the mend.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps

from streamlit.runtime.scriptrunner import ScriptRunner
from streamlit.runtime.scriptrunner_utils.script_requests import RerunData


def on_drawn_page(asked: RerunData, drawn: str, is_there: Callable[[str], bool]) -> RerunData | None:
    """Return what to run for what is asked when ``drawn`` is the page drawn last (hash; "" = none yet); None = nothing.

    Only a run of fragments asked for by another page is changed; ``is_there`` says which fragments the drawn page has.
    """
    if not asked.fragment_id_queue or not drawn or asked.page_script_hash == drawn:
        return asked
    stayed = [fragment for fragment in asked.fragment_id_queue if is_there(fragment)]
    return replace(asked, page_script_hash=drawn, fragment_id_queue=stayed) if stayed else None


def mend() -> None:
    """Let every session run fragments for the page drawn last; once a process."""
    run = ScriptRunner._run_script
    if hasattr(run, "__wrapped__"):
        return

    @wraps(run)
    def run_on_drawn_page(runner: ScriptRunner, rerun_data: RerunData) -> None:
        drawn = runner._pages_manager.current_page_script_hash
        to_run = on_drawn_page(rerun_data, drawn, runner._fragment_storage.contains)
        if to_run is not None:
            run(runner, to_run)

    ScriptRunner._run_script = run_on_drawn_page  # type: ignore[assignment, method-assign]
