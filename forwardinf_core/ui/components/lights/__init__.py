"""Traffic lights: a colour with its own sign, a name, the figure behind it and one sentence. A light can be chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import streamlit as st

from forwardinf_core.ui.components import beside

FOLDER = Path(__file__).parent
_LIGHTS = st.components.v2.component(
    "forwardinf_lights",
    html="<div class='lights' role='list'>\n</div>",
    css=beside(FOLDER, "lights.css"),
    js=beside(FOLDER, "lights.js"),
)


@dataclass(frozen=True, slots=True)
class Lamp:
    """One light as it is drawn. All text is shown letter by letter. ``call`` is the word of its button, "" = none."""

    name: str
    title: str
    colour: Literal["green", "amber", "red", "grey"]
    figure: str
    sentence: str
    hint: str = ""
    call: str = ""


def lights(lamps: Sequence[Lamp], *, key: str, label: str, columns: int = 3) -> str:
    """Draw the lights, at most ``columns`` beside each other; return the name of the one chosen in this run, or ""."""
    result = _LIGHTS(
        key=key,
        data={"lamps": [asdict(lamp) for lamp in lamps], "label": label, "columns": columns},
        on_chosen_change=lambda: None,
    )
    chosen = result.chosen or ""
    return chosen if any(lamp.name == chosen for lamp in lamps) else ""
