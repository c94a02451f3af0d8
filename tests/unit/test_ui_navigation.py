"""The table of pages: complete, without doubles, and with a start for every task."""

from __future__ import annotations

from typing import get_args

from forwardinf_core.ui.frame import PAGES
from forwardinf_core.ui.navigation import ENTRIES, EVERY, SECTIONS, Section, Task, start_of


def test_every_script_in_pages_is_in_the_table_once_and_the_other_way_round() -> None:
    assert sorted(entry.name for entry in ENTRIES) == sorted(path.stem for path in PAGES.glob("*.py"))


def test_the_table_knows_every_task_and_section() -> None:
    assert sorted(EVERY) == sorted(get_args(Task))
    assert sorted(SECTIONS) == sorted(get_args(Section))
    assert all(entry.tasks for entry in ENTRIES)


def test_a_project_begins_with_the_page_made_for_its_task() -> None:
    found = {task: start_of(task) for task in ("image-classification", "text-classification", "causal-lm", "diffusion")}
    names = {task: entry.name if entry else "" for task, entry in found.items()}
    assert names == {
        "image-classification": "overview",
        "text-classification": "overview",
        "causal-lm": "tracing",
        "diffusion": "overview",
    }
