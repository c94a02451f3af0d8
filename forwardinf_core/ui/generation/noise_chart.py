"""At which noise levels a training image's loss changed: one stem a draw, over the range of all scored images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from forwardinf_core.ui.answers import tone_of
from forwardinf_core.ui.wording import whole_percent

if TYPE_CHECKING:
    from forwardinf_core.audits.generation.ranking import NoiseProfile

HEIGHT = 190
TONES = ["neutral", "hurt", "helped"]  # in the order of the theme's categorical colours
QUIET = "#94a3b8"
CLEARLY = 0.5  # share of the change from which one third of the schedule is said to decide
WORDS = (
    "at little noise, where fine detail is decided",
    "at middling noise",
    "at much noise, where the coarse shape is decided",
)
Spec = dict[str, object]


def noise_chart(profile: NoiseProfile, n_timesteps: int, *, key: str) -> None:
    """Draw the chart with the sentence that says what to see in it."""
    st.markdown(
        "**By noise level**",
        help="The image is looked at several times, each time under another amount of noise. A stem is how far its "
        "loss rose when the model was moved away from the picture: up = the image helped there. The grey range holds "
        "nine of ten scored images.",
    )
    st.vega_lite_chart(
        spec_of(profile, n_timesteps), key=key, height=HEIGHT, alt="Change of the image's loss by noise level"
    )
    st.caption(sentence_of(profile.shares()))


def sentence_of(shares: tuple[float, float, float]) -> str:
    """Say where in the schedule most of the change lies."""
    largest = max(range(3), key=lambda third: shares[third])
    if shares[largest] < CLEARLY:
        return "The effect is spread over all noise levels."
    return f"{whole_percent(shares[largest])} of the effect lies {WORDS[largest]}."


def spec_of(profile: NoiseProfile, n_timesteps: int) -> Spec:
    """Return the chart's specification."""
    stems: list[Spec] = [
        {"t": step, "change": change, "tone": tone_of(change), "zero": 0}
        for step, change in zip(profile.timestep.tolist(), profile.change.tolist(), strict=True)
    ]
    band: list[Spec] = [
        {"t": step, "low": low, "high": high}
        for step, low, high in zip(profile.middle.tolist(), profile.low.tolist(), profile.high.tolist(), strict=True)
    ]
    across: Spec = {
        "field": "t",
        "type": "quantitative",
        "scale": {"domain": [0, n_timesteps], "nice": False},
        "axis": {"title": "timestep: clean to pure noise", "grid": False, "tickCount": 5},
    }
    up: Spec = {
        "type": "quantitative",
        "axis": {"title": "change of loss", "format": "~g", "tickCount": 4, "domain": False, "ticks": False},
    }
    colour = {"field": "tone", "type": "nominal", "scale": {"domain": TONES}, "legend": None}
    tooltip = [
        {"field": "t", "type": "quantitative", "title": "timestep"},
        {"field": "change", "type": "quantitative", "title": "change of loss", "format": ".3~g"},
    ]
    return {
        "layer": [
            {
                "data": {"values": band},
                "mark": {"type": "area", "color": QUIET, "opacity": 0.22, "interpolate": "monotone"},
                "encoding": {"x": across, "y": {"field": "low", **up}, "y2": {"field": "high"}},
            },
            {
                "data": {"values": [{"zero": 0}]},
                "mark": {"type": "rule", "color": QUIET, "opacity": 0.7},
                "encoding": {"y": {"field": "zero", **up}},
            },
            {
                "data": {"values": stems},
                "mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.9},
                "encoding": {"x": across, "y": {"field": "zero", **up}, "y2": {"field": "change"}, "color": colour},
            },
            {
                "data": {"values": stems},
                "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
                "encoding": {"x": across, "y": {"field": "change", **up}, "color": colour, "tooltip": tooltip},
            },
        ],
        "config": {"view": {"strokeWidth": 0}},
        "padding": {"bottom": 0, "top": 4, "left": 2, "right": 8},
    }
