"""The mirrored influence hypothesis on this project's rows: both influences against each other, a point a row."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import streamlit as st

from forwardinf_core.ui import address, state, thumbs
from forwardinf_core.ui.attribution.question import Project
from forwardinf_core.ui.verify.scatter import Axis, scatter
from forwardinf_core.ui.wording import class_name, counted, duration, plain
from forwardinf_core.ui.work.cost import cost_of, start_button
from forwardinf_core.ui.work.waiting import follow, newest

if TYPE_CHECKING:
    import pandas as pd

    from forwardinf_core.verification.hypothesis_records import Hypothesis, HypothesisOptions, Part

PARTS = ("convex", "network")
TITLES = {"convex": "Logistic regression, row by row", "network": "Small network, by groups"}
WORDS = {
    "convex": "Every row is left out once and a logistic regression refitted; mirrored, each test row is learned once "
    "and the rows' losses are read. The two should be proportional.",
    "network": "30 groups with a rising share of wrong labels; the paper's network is trained without each group, and "
    "once more with the test rows learned. The two should rank the groups alike.",
}
AMOUNTS = {
    "convex": "A regression is fitted once without every row, and once with every query.",
    "network": "The paper's network is trained over a hundred times.",
}
POINTS_SHOWN = 2_000
CROSS = Axis("train_to_test", "effect of leaving the row out")
GROUPS = Axis("train_to_test", "effect of leaving the group out")
ESTIMATE_PIXELS = 180  # leaves room for both figures
REPEATABLE = 0.95  # from here on chance has no part in what is found
MIRRORED = Axis("mirrored", "mirrored: effect of learning the query")


def hypothesis_part(project: Project) -> None:
    """Draw the newest result of a part, the work on it, or the way to begin."""
    from forwardinf_core.verification import hypothesis as service
    from forwardinf_core.verification.hypothesis_cost import dry_run_of, of_verification
    from forwardinf_core.verification.hypothesis_records import HypothesisOptions

    named = address.link().get("kind", "")
    st.session_state[state.HYPOTHESIS_KIND] = named if named in PARTS else PARTS[0]
    chosen = st.segmented_control(
        "Setting",
        PARTS,
        format_func=TITLES.__getitem__,
        key=state.HYPOTHESIS_KIND,
        required=True,
        label_visibility="collapsed",
        on_change=lambda: address.go(kind=st.session_state[state.HYPOTHESIS_KIND]),
    )
    part = cast("Part", chosen)
    st.caption(WORDS[part])
    options = HypothesisOptions(part=part)
    found = service.latest_hypothesis(project.audit.project, part)
    if found is not None:
        result(project, found)
        return
    job = newest(project.audit.folder, service.KIND, options)
    if job is not None:
        follow(project.ref, job)
        return
    with st.container(border=True, gap="small"):
        st.markdown(f"Not verified here yet. {AMOUNTS[part]}")
        opened = project.audit.project
        cost = cost_of(dry_run_of(opened, options), lambda rates: of_verification(opened, rates))
        start_button(
            "Verify it",
            cost,
            key=state.START_HYPOTHESIS,
            icon=":material/play_arrow:",
            on_click=lambda: start(project, options),
        )


def start(project: Project, options: HypothesisOptions) -> None:
    """Queue the work."""
    from forwardinf_core.verification import hypothesis as service

    service.start_hypothesis(project.audit.project, options)


def result(project: Project, found: Hypothesis) -> None:
    """Draw a finished verification."""
    figures(found)
    chart, table = st.columns([1.9, 1], gap="large")
    with chart:
        if found.part == "convex":
            rows_chart(project, found)
        else:
            groups_chart(found)
    with table:
        estimates(found)
    for name in found.failed:
        st.caption(f":orange[:material/warning:] Failed and left out: {plain(name)}.")
    st.caption(f"Made in {duration(found.seconds)}; options: {plain(', '.join(words_of(found)))}.")


def words_of(found: Hypothesis) -> list[str]:
    """Return the options in words, without those that were left to the program."""
    return [f"{name} {value}" for name, value in found.options.items() if value is not None and name != "part"]


def figures(found: Hypothesis) -> None:
    """Draw both correlations and what they are of."""
    low, high = found.interval
    cells = st.columns(3)
    over = counted(found.n_queries, "query", "queries")
    cells[0].metric(
        "Pearson",
        f"{found.pearson:.3f}",
        f"{low:.3f} to {high:.3f}" if math.isfinite(low) else None,
        delta_color="off",
        delta_arrow="off",
        border=True,
        height="stretch",
        help="Of the two influences, with its 95% interval; 1 is exact agreement.",
    )
    cells[1].metric("Spearman", f"{found.spearman:.3f}", border=True, height="stretch", help="The same, of the ranks.")
    cells[2].metric("Rows", f"{found.n_rows:,}", over, delta_color="off", delta_arrow="off", border=True)


def rows_chart(project: Project, found: Hypothesis) -> None:
    """Draw the rows for one query of the verification."""
    queries = found.queries
    chosen = st.selectbox(
        "Query",
        range(len(queries)),
        format_func=lambda place: (
            f"{queries['query_id'][place]} · {queries['chosen'][place]} · Pearson {queries['pearson'][place]:.3f}"
        ),
        key=state.HYPOTHESIS_QUERY,
    )
    points = found.points[found.points["query_id"] == queries["query_id"][chosen]]
    strongest = points.reindex(points["train_to_test"].abs().sort_values(ascending=False).index)[:POINTS_SHOWN]
    scatter(row_points(project, strongest), CROSS, MIRRORED, key=state.HYPOTHESIS_CHART)
    if len(points) > POINTS_SHOWN:
        st.caption(f"The {POINTS_SHOWN:,} rows with the strongest effect, of {len(points):,}.")


def row_points(project: Project, points: pd.DataFrame) -> list[dict[str, object]]:
    """Return one record a row, with its picture's address for the card."""
    places = {row_id: place for place, row_id in enumerate(project.audit.train_ids)}
    records: list[dict[str, object]] = []
    for line in points.itertuples():
        record: dict[str, object] = {
            "row": str(line.id),
            "label": class_name(project.audit.classes, int(cast("int", line.label))),
            "train_to_test": float(cast("float", line.train_to_test)),
            "mirrored": float(cast("float", line.mirrored)),
        }
        if str(line.id) in places:
            record["image"] = thumbs.address(project.ref, "train", places[str(line.id)])
        records.append(record)
    return records


def groups_chart(found: Hypothesis) -> None:
    """Draw the groups, named by their share of wrong labels."""
    records: list[dict[str, object]] = [
        {
            "row": f"group {int(cast('int', line.group))}",
            "label": f"{100 * float(cast('float', line.wrong_share)):.0f}% wrong labels",
            "train_to_test": float(cast("float", line.train_to_test)),
            "mirrored": float(cast("float", line.mirrored)),
        }
        for line in found.points.itertuples()
        if math.isfinite(float(cast("float", line.train_to_test)))
    ]
    scatter(records, GROUPS, MIRRORED, key=state.HYPOTHESIS_CHART)


def estimates(found: Hypothesis) -> None:
    """Draw how the cheap estimates do against the same truth."""
    from forwardinf_core.verification.network_estimates import words_of

    st.markdown("**The cheap estimates, against the same truth**")
    names = sorted(found.estimates, key=lambda name: -found.estimates[name][1])
    st.dataframe(
        {
            "Estimate": [words_of(name) for name in names],
            "Pearson": [found.estimates[name][0] for name in names],
            "Spearman": [found.estimates[name][1] for name in names],
        },
        hide_index=True,
        column_config={
            "Estimate": st.column_config.TextColumn(width=ESTIMATE_PIXELS),
            **{name: st.column_config.NumberColumn(format="%.3f", width="small") for name in ("Pearson", "Spearman")},
        },
        key=state.HYPOTHESIS_ESTIMATES,
    )
    for kind, (pearson, spearman) in found.by_kind.items():
        st.caption(f"Queries of {plain(kind)}: Pearson {pearson:.3f}, Spearman {spearman:.3f}.")
    if found.repeatability:
        out, mirrored = found.repeatability
        least, most = min(out, mirrored), math.sqrt(max(out, 0) * max(mirrored, 0))
        if least >= REPEATABLE:
            st.caption(f"With other seeds both come out alike: they correlate with themselves at {least:.3f} or more.")
        else:
            st.caption(
                f"With other seeds, leaving groups out would correlate with itself at {out:.2f}, the mirrored "
                f"influence at {mirrored:.2f}: more than about {most:.2f} between the two cannot be expected. "
                "More seeds raise it."
            )
