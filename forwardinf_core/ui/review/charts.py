"""The heat map that filters the review: label against suggestion."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from forwardinf_core.audits.review import Cell
from forwardinf_core.ui import address, state

CLASSES_SHOWN = 12  # of the heat map, those with most suspects

Spec = dict[str, object]


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
