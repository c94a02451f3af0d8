"""The histogram of all scores: counted on the server, drawn by Vega-Lite, with a range that can be dragged over it.

The specification is written out: building the same with Altair took half of the server's time for a click.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from forwardinf_core.ui import state
from forwardinf_core.ui.answers import Bins, bin_scores, tone_of

if TYPE_CHECKING:
    from forwardinf_core.audits.records import Attribution

HEIGHT = 150
BRUSH = "#6366f1"  # the accent; reads on light and dark
TONES = ["neutral", "hurt", "helped"]  # in the order of the theme's categorical colours

Spec = dict[str, object]


def histogram(answer: Attribution, *, shown: int) -> tuple[float, float] | None:
    """Draw the histogram with a tick for each row in the galleries; return the range dragged, or None."""
    event = st.vega_lite_chart(
        spec_of(bin_scores(answer.scores.score), answer, shown),
        key=state.of_run(state.HISTOGRAM, answer.run_id),
        on_select="rerun",
        selection_mode="brush",
        height=HEIGHT,
        alt="Histogram of the scores of all training rows",
    )
    chosen = (event.get("selection") or {}).get("brush") or {}
    ends = chosen.get("lo")
    return (float(min(ends)), float(max(ends))) if ends and len(ends) == 2 else None


def spec_of(bins: Bins, answer: Attribution, shown: int) -> Spec:
    """Return the chart: bars coloured by effect, ticks under them for the rows in the galleries."""
    positions = np.concatenate([answer.scores.top(shown), answer.scores.bottom(shown)])
    ticks = answer.scores.score[positions].tolist()
    reach = float(max(abs(bins.low[0]), abs(bins.high[-1])))
    across = {
        "field": "lo",
        "type": "quantitative",
        "scale": {"type": "symlog", "constant": bins.constant, "domain": [-reach, reach], "nice": False},
        "axis": {
            "values": axis_values(reach, bins.constant),
            "format": "~g",
            "grid": False,
            "ticks": False,
            "labelOverlap": True,
            "title": None,
        },
    }
    colour = {"field": "tone", "type": "nominal", "scale": {"domain": TONES}, "legend": None}
    brush = {
        "name": "brush",
        "select": {
            "type": "interval",
            "encodings": ["x"],
            "mark": {"fill": BRUSH, "fillOpacity": 0.12, "stroke": BRUSH, "strokeOpacity": 0.5},
        },
    }
    bars: Spec = {
        "data": {"values": bar_values(bins)},
        "params": [brush],
        "mark": {"type": "bar", "cornerRadius": 1, "binSpacing": 1},
        "encoding": {
            "x": across,
            "x2": {"field": "hi"},
            "y": {
                "field": "rows",
                "type": "quantitative",
                "scale": {"type": "symlog", "domainMin": 0},
                "axis": None,
            },
            "y2": {"datum": 0},
            "color": colour,
            "opacity": {"condition": {"param": "brush", "value": 0.9}, "value": 0.25},
            "tooltip": [
                {"field": "rows", "type": "quantitative", "title": "rows"},
                {"field": "lo", "type": "quantitative", "title": "from", "format": ".2~g"},
                {"field": "hi", "type": "quantitative", "title": "to", "format": ".2~g"},
            ],
        },
    }
    marks: Spec = {
        "data": {"values": [{"lo": score, "tone": tone_of(score)} for score in ticks]},
        "mark": {"type": "tick", "thickness": 2, "size": 10, "opacity": 1, "yOffset": 6},
        "encoding": {"x": across, "y": {"datum": 0}, "color": colour},
    }
    return {
        "layer": [bars, marks],
        "config": {"view": {"strokeWidth": 0}},
        "padding": {"bottom": 0, "top": 4, "left": 2, "right": 2},
    }


def bar_values(bins: Bins) -> list[Spec]:
    """Return one record for each bin that holds rows."""
    return [
        {"lo": low, "hi": high, "rows": rows, "tone": tone_of((low + high) / 2)}
        for low, high, rows in zip(bins.low.tolist(), bins.high.tolist(), bins.count.tolist(), strict=True)
        if rows
    ]


def axis_values(reach: float, constant: float) -> list[float]:
    """Return round values for the axis: 0 and powers of ten on both sides."""
    powers = range(int(np.ceil(np.log10(constant))), int(np.floor(np.log10(max(reach, constant)))) + 1)
    outward = [10.0**power for power in powers]
    return [*(-value for value in reversed(outward)), 0.0, *outward]
