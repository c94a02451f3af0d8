"""A scatter plot with a card for the point under the pointer: the row's picture, its label and both numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

HEIGHT = 380
ACCENT = "#6366f1"  # reads on light and dark


@dataclass(frozen=True, slots=True)
class Axis:
    """A field of the points and what it is called."""

    field: str
    title: str


def scatter(points: Sequence[dict[str, object]], across: Axis, up: Axis, *, key: str) -> None:
    """Draw points with ``row``, ``label`` and perhaps ``image`` beside the two fields."""

    def axis(one: Axis) -> dict[str, object]:
        return {
            "field": one.field,
            "type": "quantitative",
            "scale": {"zero": False},
            "axis": {"title": one.title, "format": ".4~g", "ticks": False, "domain": False, "tickCount": 6},
        }

    card = [
        {"field": "row", "type": "nominal"},
        {"field": "label", "type": "nominal"},
        {"field": across.field, "type": "quantitative", "title": across.title, "format": ".3~g"},
        {"field": up.field, "type": "quantitative", "title": up.title, "format": ".3~g"},
    ]
    if points and "image" in points[0]:
        card.append({"field": "image", "type": "nominal"})
    st.vega_lite_chart(
        {
            "data": {"values": list(points)},
            "mark": {"type": "point", "filled": True, "size": 34, "opacity": 0.75, "color": ACCENT},
            "encoding": {"x": axis(across), "y": axis(up), "tooltip": card},
            "config": {"view": {"strokeWidth": 0}},
        },
        height=HEIGHT,
        key=key,
        alt=f"{up.title} against {across.title}, a point each",
    )
