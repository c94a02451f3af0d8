"""Two pictures side by side, and what differs between them: the second turned over first where it is a mirror image."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from forwardinf_core.ui.components import beside

FOLDER = Path(__file__).parent
_PAIR = st.components.v2.component(
    "forwardinf_pair",
    html="<div class='pair'>\n</div>",
    css=beside(FOLDER, "pair.css"),
    js=beside(FOLDER, "pair.js"),
)


def pair_view(left: tuple[str, str], right: tuple[str, str], *, is_mirrored: bool, key: str) -> None:
    """Draw two pictures, each given as (address, words under it), and their difference.

    The difference is white where all colours agree and darker the more they differ, twice as dark as it is.
    """
    _PAIR(
        key=key,
        data={
            "left": {"src": left[0], "words": left[1]},
            "right": {"src": right[0], "words": right[1]},
            "mirrored": is_mirrored,
        },
    )
