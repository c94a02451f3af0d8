"""Texts cut to what a screen shows of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forwardinf_core.ui.components.passage import Passage
from forwardinf_core.ui.wording import counted

if TYPE_CHECKING:
    from forwardinf_core.audits.audit import Audit

ON_A_TILE = 180  # characters; the tile cuts what does not fit
SHOWN = 20_000  # characters of a text that is opened; more would make the page slow
EMPTY = "(empty)"


def on_tile(audit: Audit, split: str, position: int) -> str:
    """Return the beginning of a row's text in one line, "" where rows are no texts."""
    if audit.content != "text":
        return ""
    start = " ".join(audit.text(split, position)[: 4 * ON_A_TILE].split())
    return (start if len(start) <= ON_A_TILE else f"{start[: ON_A_TILE - 1]}\u2026") or EMPTY


def of_row(audit: Audit, split: str, position: int) -> Passage:
    """Return a row's text as it is shown when the row is opened."""
    text = audit.text(split, position)
    return shown(text, audit.characters_read(text))


def of_query(audit: Audit, query: str) -> Passage:
    """Return a query's text as it is shown."""
    text = audit.text_of(query)
    return shown(text, audit.characters_read(text))


def shown(text: str, read: int) -> Passage:
    """Return a text with what the model reads of it apart from the rest."""
    notes = []
    if read < len(text):
        notes.append(f"The model reads the first {counted(read, 'character')} of {len(text):,}.")
    if len(text) > SHOWN:
        notes.append(f"The first {SHOWN:,} are shown.")
    seen = visible(text)
    return Passage(seen[:read], seen[read:], " ".join(notes))


def visible(text: str) -> str:
    """Return as much of a text as a page shows; NUL characters as a sign."""
    return text[:SHOWN].replace("\x00", "\u2400")
