"""Fidelity: the linear datamodelling score of this project's methods, with interval and noise ceiling."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import streamlit as st

from forwardinf_core.ui import state
from forwardinf_core.ui.attribution.question import Project
from forwardinf_core.ui.wording import counted, duration, plain
from forwardinf_core.ui.work.cost import cost_of, start_button
from forwardinf_core.ui.work.waiting import follow, newest

if TYPE_CHECKING:
    from forwardinf_core.verification.fidelity import Fidelity, LdsOptions

WORDS = (
    "The network is retrained on random halves of the training rows. Scores that are right predict, by their sum over "
    "a half, what the network trained on it does with a test row. 0 is chance; the ceiling is what a perfect "
    "prediction would reach against outcomes this noisy."
)
Spec = dict[str, object]


def fidelity_part(project: Project) -> None:
    """Draw the newest score, the work on it, or what it will cost."""
    from forwardinf_core.verification import fidelity as service

    st.caption(WORDS)
    found = service.latest_lds(project.audit)
    if found is not None:
        result(found)
        return
    options = service.lds_options(project.audit)
    job = newest(project.audit.folder, service.KIND, options)
    if job is not None:
        follow(project.ref, job)
        return
    offer(project, options)


def offer(project: Project, options: LdsOptions) -> None:
    """Say what the score will cost and offer to begin."""
    from forwardinf_core.audits.costs import dry_run_of, of_trainings

    trainings = options.subsets * options.seeds
    with st.container(border=True, gap="small"):
        st.markdown(f"**{trainings} trainings** on half of the rows, on this machine.")
        cost = cost_of(
            dry_run_of(project.audit), lambda rates: of_trainings(project.audit, trainings, rates, share=0.5)
        )
        st.caption(
            f"{options.subsets} halves with {options.seeds} seeds, {options.queries} random test rows as queries. "
            "Trainings are kept: stopped, it goes on where it was."
        )
        start_button(
            "Start", cost, key=state.START_LDS, icon=":material/play_arrow:", on_click=lambda: start(project, options)
        )


def start(project: Project, options: LdsOptions) -> None:
    """Queue the work."""
    from forwardinf_core.verification import fidelity as service

    service.start_lds(project.audit, options)


def result(found: Fidelity) -> None:
    """Draw a finished score: the figure, every method beside it, and what was left out."""
    cells = st.columns(3)
    cells[0].metric(
        f"Fidelity of {plain(found.method)}",
        f"{found.lds:.3f}",
        f"{found.low:.3f} to {found.high:.3f}",
        delta_color="off",
        delta_arrow="off",
        border=True,
        height="stretch",
        help="Mean rank correlation over the queries, with its 95% interval over halves and queries (bootstrap).",
    )
    known = math.isfinite(found.ceiling)
    cells[1].metric(
        "Noise ceiling",
        f"{found.ceiling:.2f}" if known else "–",
        f"{100 * found.lds / found.ceiling:.0f}% of it reached" if known and found.ceiling > 0 else None,
        delta_color="off",
        delta_arrow="off",
        border=True,
        height="stretch",
        help="What a perfect prediction would reach: networks trained on the same half differ among themselves.",
    )
    cells[2].metric(
        "Queries",
        f"{found.n_queries:,}",
        counted(found.n_rows, "training row"),
        delta_color="off",
        delta_arrow="off",
        border=True,
        height="stretch",
    )
    st.vega_lite_chart(spec_of(found), height=40 + 34 * len(found.lines), alt="Fidelity of each method with intervals")
    for name in found.failed:
        st.caption(f":orange[:material/warning:] Failed and left out: {plain(name)}.")
    if found.left_out:
        st.caption(f"{counted(len(found.left_out), 'query', 'queries')} could not be compared: all their scores agree.")
    st.caption(f"Made in {duration(found.seconds)}. Bars are 95% intervals; the dashed line is the ceiling.")


def spec_of(found: Fidelity) -> Spec:
    """Return the chart: a line a method, its interval and its score, the ceiling dashed."""
    lines: list[Spec] = [
        {
            "method": name,
            "score": score,
            "low": low,
            "high": high,
            "tone": "asked" if name == found.method else "beside",
        }
        for name, (score, low, high) in found.lines.items()
    ]
    down = {
        "field": "method",
        "type": "nominal",
        "sort": "-x",
        "axis": {"title": None, "ticks": False, "domain": False, "labelLimit": 220, "labelFontSize": 13},
    }
    across = {
        "type": "quantitative",
        "axis": {"title": "linear datamodelling score", "format": "~g", "ticks": False, "domain": False},
    }
    colour = {
        "field": "tone",
        "type": "nominal",
        "scale": {"domain": ["asked", "beside"], "range": ["#6366f1", "#94a3b8"]},
        "legend": None,
    }
    card = [{"field": "method"}] + [
        {"field": name, "type": "quantitative", "format": ".3f"} for name in ("score", "low", "high")
    ]
    marks = {"y": down, "color": colour, "tooltip": card}
    layers: list[Spec] = [
        {
            "data": {"values": lines},
            "mark": {"type": "rule", "strokeWidth": 3, "opacity": 0.7},
            "encoding": {"x": {"field": "low", **across}, "x2": {"field": "high"}, **marks},
        },
        {
            "data": {"values": lines},
            "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
            "encoding": {"x": {"field": "score", **across}, **marks},
        },
    ]
    edges = [0.0, *([found.ceiling] if math.isfinite(found.ceiling) else [])]
    layers.append(
        {
            "data": {"values": [{"at": edge} for edge in edges]},
            "mark": {"type": "rule", "strokeDash": [3, 3], "opacity": 0.6, "color": "#94a3b8"},
            "encoding": {"x": {"field": "at", **across}},
        }
    )
    return {"layer": layers, "config": {"view": {"strokeWidth": 0}}}
