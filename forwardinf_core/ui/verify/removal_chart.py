"""The chart of a removal check: how the loss changed in each way of removing rows, with intervals and every seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

if TYPE_CHECKING:
    from forwardinf_core.verification.removal import Removal

HEIGHT = 190
NAMES = {
    "top": "most helpful rows",
    "random": "random rows",
    "alike": "random, same labels",
    "lowest": "most harmful rows",
}
Spec = dict[str, object]


def removal_chart(found: Removal) -> None:
    """Draw a line a kind of removal: its interval, its mean and a faint tick a seed."""
    st.vega_lite_chart(spec_of(found), height=HEIGHT, alt="Change of the query's loss by what was removed")


def spec_of(found: Removal) -> Spec:
    """Return the chart's specification."""
    from forwardinf_core.verification.removal_ladder import KINDS, Interval

    lines: list[Spec] = []
    seeds: list[Spec] = []
    for kind in KINDS:
        rise = Interval.of(found.changes[kind].rise)
        tone = "checked" if kind == "top" else "compared"
        lines.append({"kind": NAMES[kind], "tone": tone, "mean": rise.mean, "low": rise.low, "high": rise.high})
        seeds += [
            {"kind": NAMES[kind], "tone": tone, "rise": float(value), "seed": seed}
            for seed, value in zip(found.seeds, found.changes[kind].rise, strict=True)
        ]
    down = {
        "field": "kind",
        "type": "nominal",
        "sort": list(NAMES.values()),
        "axis": {"title": None, "ticks": False, "domain": False, "labelLimit": 200, "labelFontSize": 13},
    }
    axis = {"title": "change of the query's loss", "format": "~g", "ticks": False, "domain": False, "tickCount": 6}
    colour = {
        "field": "tone",
        "type": "nominal",
        "scale": {"domain": ["checked", "compared"], "range": ["#6366f1", "#94a3b8"]},
        "legend": None,
    }
    tooltip = [
        {"field": "kind", "title": "without"},
        {"field": "mean", "type": "quantitative", "format": ".3~g"},
        {"field": "low", "type": "quantitative", "format": ".3~g"},
        {"field": "high", "type": "quantitative", "format": ".3~g"},
    ]
    across = {"type": "quantitative", "axis": axis}
    return {
        "layer": [
            {
                "data": {"values": [{"at": 0}]},
                "mark": {"type": "rule", "strokeDash": [3, 3], "opacity": 0.5, "color": "#94a3b8"},
                "encoding": {"x": {"field": "at", **across}},
            },
            {
                "data": {"values": seeds},
                "mark": {"type": "tick", "thickness": 1.5, "size": 14, "opacity": 0.35},
                "encoding": {"x": {"field": "rise", **across}, "y": down, "color": colour},
            },
            {
                "data": {"values": lines},
                "mark": {"type": "rule", "strokeWidth": 3, "opacity": 0.8},
                "encoding": {
                    "x": {"field": "low", **across},
                    "x2": {"field": "high"},
                    "y": down,
                    "color": colour,
                    "tooltip": tooltip,
                },
            },
            {
                "data": {"values": lines},
                "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
                "encoding": {"x": {"field": "mean", **across}, "y": down, "color": colour, "tooltip": tooltip},
            },
        ],
        "config": {"view": {"strokeWidth": 0}},
        "padding": {"bottom": 0, "top": 4, "left": 2, "right": 8},
    }
