"""Which pages there are, in which section, and for which tasks. A new page is one line here and a script in pages/."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Section = Literal["Explore", "Decide", "Trust", "Trace"]
Task = Literal["image-classification", "text-classification", "causal-lm", "seq2seq-lm", "diffusion"]

SECTIONS: tuple[Section, ...] = ("Explore", "Decide", "Trust", "Trace")  # from top to bottom
IMAGES: tuple[Task, ...] = ("image-classification",)
CLASSIFICATION: tuple[Task, ...] = ("image-classification", "text-classification")
LANGUAGE: tuple[Task, ...] = ("causal-lm", "seq2seq-lm")
DIFFUSION: tuple[Task, ...] = ("diffusion",)
MEMORIZING: tuple[Task, ...] = (*CLASSIFICATION, *LANGUAGE)
PICTURED: tuple[Task, ...] = (*CLASSIFICATION, *DIFFUSION)  # whose rows the web server shows
EVERY: tuple[Task, ...] = (*CLASSIFICATION, *LANGUAGE, *DIFFUSION)


@dataclass(frozen=True, slots=True)
class Entry:
    """One page: its script in pages/ (the address is the script's name), and the tasks it can work for."""

    section: Section
    name: str
    title: str
    icon: str
    tasks: tuple[Task, ...]


ENTRIES: tuple[Entry, ...] = (
    Entry("Explore", "overview", "Overview", ":material/dashboard:", (*CLASSIFICATION, *DIFFUSION)),
    Entry("Explore", "attribution", "Attribution", ":material/hub:", CLASSIFICATION),
    Entry("Decide", "review", "Review", ":material/fact_check:", CLASSIFICATION),
    Entry("Decide", "leakage", "Leakage", ":material/content_copy:", CLASSIFICATION),
    Entry("Decide", "memorization", "Memorization", ":material/psychology:", MEMORIZING),
    Entry("Trust", "verify", "Verify", ":material/verified_user:", CLASSIFICATION),
    Entry("Trace", "tracing", "Text tracing", ":material/manage_search:", LANGUAGE),
    Entry("Trace", "generation", "Generation tracing", ":material/brush:", DIFFUSION),
)
"""In the order of the navigation; the first is what the bare address shows."""


def start_of(task: str) -> Entry | None:
    """Return the page a task begins with: the overview where it has one, else of those for the fewest tasks the first.

    None where the task has no page.
    """
    if task in ENTRIES[0].tasks:
        return ENTRIES[0]
    return min((entry for entry in ENTRIES if task in entry.tasks), key=lambda entry: len(entry.tasks), default=None)
