"""One picture, large: small pictures keep their pixels sharp, none is cropped or stretched."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from forwardinf_core.ui.components import beside

FOLDER = Path(__file__).parent
_PICTURE = st.components.v2.component(
    "forwardinf_picture",
    html="<figure class='picture'>\n</figure>",
    css=beside(FOLDER, "picture.css"),
    js=beside(FOLDER, "draw.js") + beside(FOLDER, "picture.js"),
)


def picture(src: str, *, key: str, alt: str, width: int = 220) -> None:
    """Draw the picture at an address in a square at most ``width`` pixels wide."""
    _PICTURE(key=key, data={"src": src, "alt": alt, "width": width})
