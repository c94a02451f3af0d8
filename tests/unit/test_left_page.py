"""What is done with an event of a page just left."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from streamlit.runtime.scriptrunner_utils.script_requests import RerunData

from forwardinf_core.ui import components
from forwardinf_core.ui.left_page import on_drawn_page

NOTHING_STAYED, ALL_STAYED = (lambda _fragment: False), (lambda _fragment: True)


@pytest.mark.parametrize(
    "asked",
    [
        RerunData(page_script_hash="next"),
        RerunData(page_script_hash="drawn", fragment_id_queue=["part"]),
        RerunData(page_script_hash="next", widget_states=None, is_auto_rerun=True),
    ],
)
def test_whole_pages_and_fragments_of_the_drawn_page_run_as_asked(asked: RerunData) -> None:
    assert on_drawn_page(asked, "drawn", NOTHING_STAYED) is asked


def test_a_fragment_of_a_page_left_runs_only_where_it_stayed() -> None:
    asked = RerunData(page_script_hash="left", fragment_id_queue=["gone", "stayed"])
    assert on_drawn_page(asked, "", ALL_STAYED) is asked
    assert on_drawn_page(asked, "drawn", NOTHING_STAYED) is None
    found = on_drawn_page(asked, "drawn", lambda fragment: fragment == "stayed")
    assert found is not None
    assert (found.page_script_hash, found.fragment_id_queue) == ("drawn", ["stayed"])


def test_a_callback_is_silent_from_the_first_moment_of_the_next_pages_run(monkeypatch: pytest.MonkeyPatch) -> None:
    run = SimpleNamespace(page_script_hash="left")
    monkeypatch.setattr(components, "get_script_run_ctx", lambda **_options: run)
    told: list[str] = []
    changed = components.on_its_page(lambda: told.append(run.page_script_hash))
    changed()
    run.page_script_hash = "next"
    changed()
    assert told == ["left"]
