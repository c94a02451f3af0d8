"""What the link of a screen says: which query, asked about what, scored how, with which row open.

The link is the one place where these are kept: screens read it, callbacks change it, and Back and Forward work.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import streamlit as st


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
    return Address(**{name: str(st.query_params.get(name, "")) for name in NAMES})


def go(**changes: str) -> None:
    """Change parts of the link; an empty value removes the part. For callbacks, before the screen is drawn again."""
    kept = {name: value for name, value in st.query_params.to_dict().items() if name not in changes}
    st.query_params.from_dict({**kept, **{name: value for name, value in changes.items() if value}})
