"""What the review does to test accuracy, against the rows as they are and against dropping the top k unreviewed."""

from __future__ import annotations

import streamlit as st

from forwardinf_core.audits.costs import dry_run_of, of_trainings
from forwardinf_core.audits.decisions import Ledger
from forwardinf_core.audits.review_effect import (
    ARMS,
    KIND,
    SEEDS,
    TOP,
    Effect,
    EffectOptions,
    Gain,
    Part,
    can_retrain,
    effect_now,
    find_effect,
    is_quick,
    options_for,
    start_effect,
)
from forwardinf_core.reports.exports.changes import changes_of
from forwardinf_core.ui import messages, state
from forwardinf_core.ui.review.session import Desk
from forwardinf_core.ui.wording import counted, share
from forwardinf_core.ui.work.cost import cost_of, start_button
from forwardinf_core.ui.work.waiting import follow, newest

CLASSES_SHOWN = 20
TITLES: dict[str, str] = {ARMS[0]: "Rows as they are", ARMS[1]: "After the review", TOP: "Top k dropped, unreviewed"}
PARTS: dict[Part, str] = {"head": "Last layer, in seconds", "model": "Whole model, three seeds"}


def effect_panel(desk: Desk, ledger: Ledger) -> None:
    """Draw the comparison, or the way to make it."""
    audit = desk.project.audit
    changes = changes_of(audit.train, ledger)
    if not changes:
        messages.show_empty(
            "Nothing is relabelled or dropped yet",
            "The effect on test accuracy shows here as soon as some rows are.",
            icon=":material/trending_up:",
        )
        return
    parts = [part for part in PARTS if can_retrain(audit, part)]
    if not parts:
        messages.show_empty(
            "This model cannot be retrained here",
            "It has no linear last layer, and how it was trained is not known.",
            icon=":material/block:",
        )
        return
    left, right = st.columns([2, 1], vertical_alignment="bottom")
    with left:
        part = st.segmented_control(
            "Retrain", parts, default=parts[0], key=state.EFFECT_PART, format_func=PARTS.__getitem__
        )
    with right:
        count = len(changes.relabel) + len(changes.drop)
        k = st.number_input("Compare with dropping the top", 1, len(desk.review), count, key=state.EFFECT_TOP)
    chosen: Part = part or parts[0]
    top = desk.review.ranking[: int(k)].tolist()
    options = options_for(chosen, changes.relabel, changes.drop, top)
    found = find_effect(audit, options)
    if found is not None:
        shown(found)
        return
    job = newest(audit.folder, KIND)
    if job is not None:
        follow(desk.project.ref, job, "Training networks")
        if job.is_active:
            return
    trained = "The last layer is" if chosen == "head" else "Nine networks are"
    st.caption(f"{trained} trained on the rows as they are, as reviewed, and without the top {int(k):,} unreviewed.")
    cost = None
    if chosen == "model":
        cost = cost_of(dry_run_of(audit), lambda rates: of_trainings(audit, len(ARMS) * len(SEEDS), rates))
    start_button(
        "Train and compare",
        cost,
        key=state.EFFECT_START,
        icon=":material/play_arrow:",
        on_click=lambda: start(desk, options),
    )


def start(desk: Desk, options: EffectOptions) -> None:
    """Make the comparison where that takes seconds, else hand it to the worker."""
    audit = desk.project.audit
    (effect_now if is_quick(audit, options) else start_effect)(audit, options)


def shown(found: Effect) -> None:
    """Draw accuracies, gains and classes."""
    gains = {gain.name: gain for gain in found.gains}
    for column, arm in zip(st.columns(len(found.arms)), found.arms, strict=True):
        gain = gains.get(arm.name)
        column.metric(
            TITLES[arm.name],
            f"{100 * arm.accuracy:.1f}%",
            delta=None if gain is None else f"{100 * gain.change:+.1f} points",
            delta_color="off" if gain is None or unclear(gain) else "normal",
            border=True,
            height="stretch",
        )
        column.caption(f"{100 * arm.low:.1f} to {100 * arm.high:.1f}% · {counted(arm.rows, 'training row')}")
    seeds = f"mean of {len(found.seeds)} seeds" if len(found.seeds) > 1 else "one optimum, no seeds"
    told = [f"Accuracy on {counted(found.test_rows, 'labelled test row')}, {seeds}, 95% intervals."]
    told += [sentence(gain) for gain in found.gains]
    if found.part == "head":
        told.append("Features stay those learnt with the labels as they are: the whole model may gain more.")
    told += [f"Training failed and is left out: {one}." for one in found.failed]
    st.caption(" ".join(told))
    rows = sorted(found.classes, key=lambda one: one.shares[1] - one.shares[0])
    ends = rows if len(rows) <= CLASSES_SHOWN else [*rows[: CLASSES_SHOWN // 2], *rows[-CLASSES_SHOWN // 2 :]]
    st.dataframe(
        [
            {"Class": one.name, "Test rows": one.test_rows}
            | {TITLES[name]: share(value) for name, value in zip(ARMS, one.shares, strict=True)}
            | {"Change by the review": f"{100 * (one.shares[1] - one.shares[0]):+.1f} points"}
            for one in reversed(ends)
            if one.test_rows
        ],
        hide_index=True,
        width="stretch",
    )


def unclear(gain: Gain) -> bool:
    """Say whether chance alone may explain a change."""
    return gain.low <= 0 <= gain.high


def sentence(gain: Gain) -> str:
    """Return a gain in words."""
    where = f"{100 * gain.change:+.1f} points ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})"
    return f"{TITLES[gain.name]}: {where}{', within chance' if unclear(gain) else ''}."
