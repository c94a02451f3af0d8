"""The histogram of memorisation with a range that can be dragged over it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from forwardinf_core.ui import address, state

if TYPE_CHECKING:
    from forwardinf_core.audits.memorization.choosing import Bars, Chosen

HEIGHT = 130
BRUSH = "#6366f1"  # the accent; reads on light and dark

Spec = dict[str, object]


def histogram(run_id: str, bars: Bars, chosen: Chosen) -> None:
    """Draw it; dragging over it keeps the rows of that range in the link."""
    key = state.of_run(state.MEM_HISTOGRAM, run_id)

    def brushed() -> None:
        ends = ((st.session_state.get(key) or {}).get("selection") or {}).get("brush", {}).get("lo")
        low, high = (f"{min(ends):.6g}", f"{max(ends):.6g}") if ends and len(ends) == 2 else ("", "")
        address.go(low=low, high=high, row="", page="")

    st.vega_lite_chart(
        spec_of(bars, chosen),
        key=key,
        on_select=brushed,
        selection_mode="brush",
        height=HEIGHT,
        alt="Histogram of the memorisation of the training rows",
    )


def spec_of(bars: Bars, chosen: Chosen) -> Spec:
    """Return the chart."""
    title = "self-influence, powers of ten" if bars.is_log else "how much its own presence raises its probability"
    values = [
        {"lo": low, "hi": high, "rows": rows}
        for low, high, rows in zip(bars.low.tolist(), bars.high.tolist(), bars.rows.tolist(), strict=True)
        if rows
    ]
    brush: Spec = {
        "name": "brush",
        "select": {
            "type": "interval",
            "encodings": ["x"],
            "mark": {"fill": BRUSH, "fillOpacity": 0.12, "stroke": BRUSH, "strokeOpacity": 0.5},
        },
    }
    if chosen.low is not None and chosen.high is not None:
        brush["value"] = {"x": [chosen.low, chosen.high]}
    return {
        "data": {"values": values},
        "params": [brush],
        "mark": {"type": "bar", "cornerRadius": 1, "binSpacing": 1, "color": BRUSH},
        "encoding": {
            "x": {
                "field": "lo",
                "type": "quantitative",
                "scale": {"domain": [float(bars.low[0]), float(bars.high[-1])], "nice": False},
                "axis": {"format": "~g", "grid": False, "ticks": False, "title": title, "tickCount": 7},
            },
            "x2": {"field": "hi"},
            "y": {"field": "rows", "type": "quantitative", "scale": {"type": "symlog", "domainMin": 0}, "axis": None},
            "y2": {"datum": 0},
            "opacity": {"condition": {"param": "brush", "value": 0.9}, "value": 0.25},
            "tooltip": [
                {"field": "rows", "type": "quantitative", "title": "rows"},
                {"field": "lo", "type": "quantitative", "title": "from", "format": ".2~f"},
                {"field": "hi", "type": "quantitative", "title": "to", "format": ".2~f"},
            ],
        },
        "config": {"view": {"strokeWidth": 0}},
        "padding": {"bottom": 0, "top": 2, "left": 2, "right": 2},
    }
