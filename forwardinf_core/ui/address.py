"""What the link of a screen says: which query, asked about what, scored how, with which row open.

The link is the one place where these are kept: screens read it, callbacks change it, and Back and Forward work.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, fields

import streamlit as st

from forwardinf_core.ui import state

SETTLING_S = 1.0  # how long a browser may still send the link it had before


@dataclass(frozen=True, slots=True)
class Address:
    """The question a screen shows. Empty = not said."""

    query: str = ""  # "test:ID" or "upload:KEY"
    target: str = ""  # "" = the predicted class, "label" = the row's own label, otherwise a class's number
    method: str = ""  # "" = the quick answer
    row: str = ""  # id of the open training row
    compare: str = ""  # the second query

    def parameters(self) -> dict[str, str]:
        """Return what the link has to say, without the empty parts."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name))}


NAMES = tuple(field.name for field in fields(Address))


def read() -> Address:
    """Return what the link says now."""
    said = link()
    return Address(**{name: said.get(name, "") for name in NAMES})


def link() -> dict[str, str]:
    """Return all that the link says now, by name."""
    said: dict[str, str] = st.query_params.to_dict()
    return said


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the link: what it said when the browser asked, what it says since, and when (seconds)."""

    page: str
    before: dict[str, str]
    after: dict[str, str]
    at: float


def go(**changes: str) -> None:
    """Change parts of the link; an empty value removes the part. For callbacks, before the screen is drawn again.

    Of two quick clicks the second is sent with the link from before the first; what the first changed stays.
    """
    page, said = str(st.context.url or ""), link()
    known = caught_up(page, said, st.session_state.get(state.LINK_CHANGE), time.monotonic())
    kept = {name: value for name, value in known.items() if name not in changes}
    after = {**kept, **{name: value for name, value in changes.items() if value}}
    st.query_params.from_dict(after)
    st.session_state[state.LINK_CHANGE] = Change(page, said, after, time.monotonic())


def caught_up(page: str, said: dict[str, str], last: Change | None, now: float) -> dict[str, str]:
    """Return the link as it is when a browser says it is ``said``: just after a change it may not know of it yet.

    For clicks alone: a screen that is drawn after Back has gone back, however soon.
    """
    if last is not None and last.page == page and last.before == said and now - last.at < SETTLING_S:
        return last.after
    return said
