"""The two charts that filter the review: suspicion of all rows with a brush, and label against suggestion."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from forwardinf_core.audits.review import Cell, Filter
from forwardinf_core.ui import address, state

BINS = 40
HEIGHT = 110
BRUSH = "#6366f1"  # the accent; reads on light and dark
CLASSES_SHOWN = 12  # of the heat map, those with most suspects

Spec = dict[str, object]


def suspicion_chart(run_id: str, score: NDArray[np.float32], chance: NDArray[np.float32], chosen: Filter) -> None:
    """Draw how suspicious all rows are; dragging over it keeps the rows of that range."""
    spec = suspicion_spec(score, chance, chosen)
    key = state.of_run(state.SUSPICION, run_id)

    def brushed() -> None:
        ends = ((st.session_state.get(key) or {}).get("selection") or {}).get("brush", {}).get("lo")
        low, high = (f"{min(ends):.6g}", f"{max(ends):.6g}") if ends and len(ends) == 2 else ("", "")
        address.go(low=low, high=high, row="")

    st.vega_lite_chart(
        spec, key=key, on_select=brushed, selection_mode="brush", height=HEIGHT, alt="Suspicion of all training rows"
    )


def suspicion_spec(score: NDArray[np.float32], chance: NDArray[np.float32], chosen: Filter) -> Spec:
    """Return the histogram: all rows in grey, the wrong labels expected among them in the accent colour."""
    edges = np.linspace(float(score.min()), float(score.max()) or 1.0, BINS + 1)
    if edges[0] == edges[-1]:
        edges = np.linspace(edges[0] - 0.5, edges[0] + 0.5, BINS + 1)
    rows, _ = np.histogram(score, edges)
    wrong, _ = np.histogram(score, edges, weights=chance)
    values = [
        {"lo": low, "hi": high, "rows": int(count), "wrong": round(float(bad), 2)}
        for low, high, count, bad in zip(edges[:-1].tolist(), edges[1:].tolist(), rows, wrong, strict=True)
        if count
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
    across = {
        "field": "lo",
        "type": "quantitative",
        "scale": {"domain": [edges[0], edges[-1]], "nice": False},
        "axis": {"format": "~g", "grid": False, "ticks": False, "title": None, "tickCount": 5},
    }
    tooltip = [
        {"field": "rows", "type": "quantitative", "title": "rows"},
        {"field": "wrong", "type": "quantitative", "title": "wrong labels expected"},
    ]

    def bars(field: str, colour: dict[str, object]) -> Spec:
        up = {"field": field, "type": "quantitative", "scale": {"type": "symlog", "domainMin": 0}, "axis": None}
        return {
            "mark": {"type": "bar", "cornerRadius": 1, "binSpacing": 1, **colour},
            "encoding": {"x": across, "x2": {"field": "hi"}, "y": up, "y2": {"datum": 0}, "tooltip": tooltip},
        }

    return {
        "data": {"values": values},
        "layer": [
            {**bars("rows", {"color": "#94a3b8", "opacity": 0.45}), "params": [brush]},
            bars("wrong", {"color": BRUSH, "opacity": 0.9}),
        ],
        "config": {"view": {"strokeWidth": 0}},
        "padding": {"bottom": 0, "top": 2, "left": 2, "right": 2},
    }


def pairs_chart(run_id: str, cells: Sequence[Cell], classes: Sequence[str]) -> None:
    """Draw label against suggestion; a click on a cell keeps its rows."""
    key = state.of_run(state.SUSPECT_PAIRS, run_id)
    shown = busiest(cells)

    def clicked() -> None:
        found = ((st.session_state.get(key) or {}).get("selection") or {}).get("cell") or []
        label, suggested = (str(found[0].get("from", "")), str(found[0].get("to", ""))) if found else ("", "")
        address.go(label=label, suggested=suggested, row="")

    values = [
        {"from": cell.label, "to": cell.suggested, "rows": cell.rows, "open": cell.open}
        | {"label": classes[cell.label][:24], "suggested": classes[cell.suggested][:24]}
        for cell in cells
        if cell.label in shown and cell.suggested in shown
    ]
    names = [classes[code][:24] for code in shown]
    axis = {"title": None, "ticks": False, "domain": False, "labelLimit": 70, "labelPadding": 4}
    spec: Spec = {
        "data": {"values": values},
        "params": [{"name": "cell", "select": {"type": "point", "fields": ["from", "to"]}}],
        "mark": {"type": "rect", "cornerRadius": 3, "cursor": "pointer", "stroke": None},
        "encoding": {
            "y": {"field": "label", "type": "nominal", "scale": {"domain": names, "padding": 0.06}, "axis": axis},
            "x": {
                "field": "suggested",
                "type": "nominal",
                "scale": {"domain": names, "padding": 0.06},
                "axis": {**axis, "orient": "top", "labelAngle": 0 if max(map(len, names), default=0) < 3 else -60},
            },
            "color": {
                "field": "rows",
                "type": "quantitative",
                "scale": {"range": ["#6366f130", "#6366f1"], "type": "sqrt", "domainMin": 0},
                "legend": None,
            },
            "opacity": {"condition": {"param": "cell", "value": 1}, "value": 0.3},
            "tooltip": [
                {"field": "label", "title": "label"},
                {"field": "suggested", "title": "suggested"},
                {"field": "rows", "title": "suspects"},
                {"field": "open", "title": "still open"},
            ],
        },
        "config": {"view": {"strokeWidth": 0}},
        "padding": {"bottom": 0, "top": 2, "left": 2, "right": 2},
    }
    st.vega_lite_chart(
        spec,
        key=key,
        on_select=clicked,
        selection_mode="cell",
        height=60 + 17 * len(shown),
        alt="Suspects by label (rows) and suggested label (columns)",
    )


def busiest(cells: Sequence[Cell]) -> list[int]:
    """Return the classes with most suspects, as label or suggestion, in their own order."""
    weight: dict[int, int] = {}
    for cell in cells:
        weight[cell.label] = weight.get(cell.label, 0) + cell.rows
        weight[cell.suggested] = weight.get(cell.suggested, 0) + cell.rows
    return sorted(sorted(weight, key=lambda code: -weight[code])[:CLASSES_SHOWN])
