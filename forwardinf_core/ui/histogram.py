"""The histogram of all scores: counted on the server, drawn by Altair, with a range that can be dragged over it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import altair as alt
import numpy as np
import pandas as pd
import streamlit as st

from forwardinf_core.ui import state
from forwardinf_core.ui.answers import Bins, bin_scores

if TYPE_CHECKING:
    from forwardinf_core.audits.records import Attribution

HEIGHT = 150
BRUSH = "#6366f1"  # the accent; reads on light and dark
TICK_TRACK = 0.5  # where, in counts, the ticks of the shown rows lie: just above the axis
EFFECTS = ["none", "hurt", "helped"]  # in the order of the theme's categorical colours


def histogram(answer: Attribution, *, shown: int) -> tuple[float, float] | None:
    """Draw the histogram with a tick for each row in the galleries; return the range dragged, or None."""
    bins = bin_scores(answer.scores.score)
    event = st.altair_chart(
        chart_of(bins, answer, shown),
        key=state.of_run(state.HISTOGRAM, answer.run_id),
        on_select="rerun",
        selection_mode="brush",
        height=HEIGHT,
        alt="Histogram of the scores of all training rows",
    )
    chosen = (event.get("selection") or {}).get("brush") or {}
    ends = chosen.get("lo")
    return (float(min(ends)), float(max(ends))) if ends and len(ends) == 2 else None


def chart_of(bins: Bins, answer: Attribution, shown: int) -> alt.LayerChart:
    """Return the chart: bars coloured by effect, ticks under them for the rows in the galleries."""
    middle = (bins.low + bins.high) / 2
    bars = pd.DataFrame(
        {
            "lo": bins.low,
            "hi": bins.high,
            "rows": bins.count,
            "effect": np.where(middle > 0, "helped", np.where(middle < 0, "hurt", "none")),
        }
    )
    positions = np.concatenate([answer.scores.top(shown), answer.scores.bottom(shown)])
    scores = answer.scores.score[positions].astype(float)
    ticks = pd.DataFrame({"lo": scores, "effect": np.where(scores > 0, "helped", "hurt")})

    reach = float(max(abs(bins.low[0]), abs(bins.high[-1])))
    across = alt.Scale(type="symlog", constant=bins.constant, domain=[-reach, reach], nice=False)
    axis = alt.Axis(
        values=axis_values(reach, bins.constant), format="~g", grid=False, ticks=False, labelOverlap=True, title=None
    )
    colour = alt.Color("effect:N", scale=alt.Scale(domain=EFFECTS), legend=None)
    brush = alt.selection_interval(
        name="brush",
        encodings=["x"],
        mark=alt.BrushConfig(fill=BRUSH, fillOpacity=0.12, stroke=BRUSH, strokeOpacity=0.5),
    )
    layer = (
        alt.Chart(bars)
        .mark_bar(cornerRadius=1, binSpacing=1)
        .encode(
            x=alt.X("lo:Q", scale=across, axis=axis),
            x2="hi:Q",
            y=alt.Y("rows:Q", scale=alt.Scale(type="symlog", domainMin=0), axis=None),
            y2=alt.datum(0),
            color=colour,
            opacity=alt.condition(brush, alt.value(0.9), alt.value(0.25)),
            tooltip=[
                alt.Tooltip("rows:Q", title="rows"),
                alt.Tooltip("lo:Q", title="from", format=".2~g"),
                alt.Tooltip("hi:Q", title="to", format=".2~g"),
            ],
        )
        .add_params(brush)
    )
    marks = (
        alt.Chart(ticks)
        .mark_tick(thickness=2, size=10, opacity=1, yOffset=6)
        .encode(x=alt.X("lo:Q", scale=across, axis=axis), y=alt.datum(0), color=colour)
    )
    return (
        alt.layer(layer, marks)
        .configure_view(strokeWidth=0)
        .properties(padding={"bottom": 0, "top": 4, "left": 2, "right": 2})
    )


def axis_values(reach: float, constant: float) -> list[float]:
    """Return round values for the axis: 0 and powers of ten on both sides."""
    powers = range(int(np.ceil(np.log10(constant))), int(np.floor(np.log10(max(reach, constant)))) + 1)
    outward = [10.0**power for power in powers]
    return [*(-value for value in reversed(outward)), 0.0, *outward]
