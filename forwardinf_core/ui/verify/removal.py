"""Does this answer hold? One query, retrained without the rows that are said to have helped it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, cast

import streamlit as st

from forwardinf_core.errors import AuditError
from forwardinf_core.ui import address, answers, frame, messages, state
from forwardinf_core.ui.attribution.drawn import card_of
from forwardinf_core.ui.attribution.picker import picker
from forwardinf_core.ui.attribution.question import Project, Question, answer, ask
from forwardinf_core.ui.components.card import card
from forwardinf_core.ui.components.gallery import gallery
from forwardinf_core.ui.verify.removal_chart import removal_chart
from forwardinf_core.ui.wording import class_name, counted, plain, share
from forwardinf_core.ui.work.cost import cost_of, start_button
from forwardinf_core.ui.work.waiting import follow, newest

if TYPE_CHECKING:
    from forwardinf_core.verification.checks import Verdict
    from forwardinf_core.verification.removal import Removal, RemovalOptions
    from forwardinf_core.verification.removal_ladder import Scope

SIDE_WIDTH = 284
SCOPES = ("head", "model")
SCOPE_WORDS = {"head": "Last layer", "model": "Whole network"}
SCOPE_HELP = (
    "The last layer is refitted on the model's own features, in seconds; this tells what rows do through it. The whole "
    "network is trained anew, layer by layer, which takes minutes and tells everything."
)
BADGES: dict[Verdict, tuple[str, str, Literal["green", "orange", "red"]]] = {
    "green": ("Holds", ":material/check_circle:", "green"),
    "amber": ("Holds on average", ":material/help:", "orange"),
    "red": ("Does not hold", ":material/cancel:", "red"),
}
SHOWN = 12


def removal_part(project: Project) -> None:
    """Draw the check of the query in the link, or the choice of one."""
    named = address.read()
    if not named.query:
        st.caption("Choose a prediction. The rows said to have helped it are removed, and the model trained again.")
        picker(project, named, wide=True)
        return
    with st.container(horizontal=True, gap="large"):
        side, main = st.container(width=SIDE_WIDTH), st.container(width="stretch")
    question: Question | None = None
    with side, messages.guard():
        question = ask(project, named, named.query)
        query_side(project, question)
    if question is None:
        return
    with main, messages.guard():
        check(project, question)


def query_side(project: Project, question: Question) -> None:
    """Draw the query, what the model says of it, and the way to its rows and to another query."""
    with st.container(border=True, gap="small"):
        card(card_of(project, question), key=state.QUERY_CARD)
        target = plain(class_name(project.audit.classes, question.target))
        st.caption(f"Asked about **{target}**, rows ranked by **{plain(question.method)}**.")
        st.page_link(
            frame.ATTRIBUTION,
            label="See its rows",
            icon=":material/hub:",
            query_params=address.read().parameters(),
        )
    st.button(
        "Another query",
        key=state.OTHER_QUERY,
        icon=":material/swap_horiz:",
        width="stretch",
        on_click=address.go,
        kwargs={"query": "", "target": "", "run": ""},
    )


def check(project: Project, question: Question) -> None:
    """Draw the options, and below them the check: at once where it takes seconds, else what it will cost."""
    from forwardinf_core.verification import removal as service

    scope, k = choices(project)
    options = service.removal_options(
        project.audit, question.query, target=question.target, method=question.method, k=k, scope=cast("Scope", scope)
    )
    found = service.stored_removal(project.audit, options)
    if found is None and service.is_instant(project.audit, options):
        with st.spinner("Refitting the last layer without these rows"):
            found = service.check_removal(project.audit, options)
    if found is not None:
        result(project, question, found)
        return
    job = newest(project.audit.folder, service.KIND, options)
    if job is not None:
        follow(project.ref, job)
        return
    offer(project, options)


def choices(project: Project) -> tuple[str, int]:
    """Draw what is retrained and how many rows go; both are kept in the link."""
    from forwardinf_core.verification.removal_ladder import MOST_SHARE, default_k

    link = address.link()
    named, given = link.get("scope", ""), link.get("k", "")
    n_rows = len(project.audit.train_ids)
    usual, most = default_k(n_rows), max(1, int(MOST_SHARE * n_rows))
    st.session_state[state.REMOVAL_SCOPE] = named if named in SCOPES else SCOPES[0]
    st.session_state[state.REMOVAL_K] = min(max(int(given), 1), most) if given.isdecimal() else usual
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        scope = st.segmented_control(
            "Retrain",
            SCOPES,
            format_func=SCOPE_WORDS.__getitem__,
            key=state.REMOVAL_SCOPE,
            required=True,
            help=SCOPE_HELP,
            on_change=lambda: address.go(scope=st.session_state[state.REMOVAL_SCOPE]),
        )
        k = st.number_input(
            "Rows removed",
            1,
            most,
            key=state.REMOVAL_K,
            width=170,
            help=f"How many of its most helpful rows are removed. {usual} is {100 * usual / n_rows:.0f}% of the "
            f"{n_rows:,} training rows.",
            on_change=lambda: address.go(k=str(st.session_state[state.REMOVAL_K])),
        )
    return str(scope), int(k)


def offer(project: Project, options: RemovalOptions) -> None:
    """Say what the check will cost and offer to start it."""
    from forwardinf_core.audits.costs import dry_run_of, of_trainings
    from forwardinf_core.verification import removal as service

    with st.container(border=True, gap="small"):
        cost = None
        if options.scope == "model":
            trainings = service.trainings_of(options)
            st.markdown(f"**{trainings} trainings** on this machine.")
            cost = cost_of(dry_run_of(project.audit), lambda rates: of_trainings(project.audit, trainings, rates))
            st.caption(
                f"{options.seeds} seeds, each trained on all rows, without the {options.k} most helpful, without as "
                "many at random, at random of the same labels, and without the most harmful. Trainings are kept: "
                "stopped, it goes on where it was, and those on all rows serve other queries too."
            )
        else:
            st.markdown(f"The last layer is refitted {5 * options.seeds} times, in the background.")
        start_button(
            "Start",
            cost,
            key=state.START_REMOVAL,
            icon=":material/play_arrow:",
            on_click=lambda: start(project, options),
        )


def start(project: Project, options: RemovalOptions) -> None:
    """Queue a check."""
    from forwardinf_core.verification import removal as service

    service.start_removal(project.audit, options)


def result(project: Project, question: Question, found: Removal) -> None:
    """Draw a finished check: the verdict in a sentence, the chart, what became of the prediction, the removed rows."""
    word, icon, colour = BADGES[found.verdict]
    with st.container(border=True, gap="small"):
        st.badge(word, icon=icon, color=colour)
        st.markdown(sentence(found))
        removal_chart(found)
        st.caption(
            f"Dots are means over {counted(len(found.seeds), 'seed')}, bars their 95% intervals, ticks single seeds. "
            "Right of 0 the query became harder."
        )
        for name in found.failed:
            st.caption(f":orange[:material/warning:] Failed and left out, with its seed: {plain(name)}.")
    figures(project, question, found)
    removed_rows(project, question, found)
    with st.expander("How this is judged", type="compact"):
        st.caption(found.check.rule)
        st.caption(SCOPE_HELP)


def sentence(found: Removal) -> str:
    """Say what was found, in words."""
    digits = decimals(found.rise.mean)
    low, high, random = (to(value, digits) for value in (found.rise.low, found.rise.high, found.changes["random"].mean))
    ending = {
        "green": "So the answer holds.",
        "amber": "On average the answer holds; these seeds cannot tell it from chance.",
        "red": "So these rows did not help it: the answer does not hold.",
    }[found.verdict]
    way = "rises" if found.rise.mean > 0 else "falls"
    return (
        f"Without its **{found.k}** most helpful rows the query's loss {way} by "
        f"**{abs(found.rise.mean):.{digits}f}** (95%: {low} to {high}); without {found.k} random rows it changes by "
        f"**{random}**. {ending}"
    )


def decimals(value: float) -> int:
    """Return how many decimals show two digits of a number that count, so that others can be compared with it."""
    return int(min(max(1 - math.floor(math.log10(abs(value))), 0), 9)) if value and math.isfinite(value) else 2


def to(value: float, digits: int) -> str:
    """Return a signed number with so many decimals; what rounds to nothing has no sign."""
    said = f"{value:+.{digits}f}"
    return said[1:] if float(said) == 0 else said.replace("-", "\u2212")


def figures(project: Project, question: Question, found: Removal) -> None:
    """Draw what became of the prediction."""
    name = class_name(project.audit.classes, question.target)
    first, second, third = st.columns(3)
    first.metric(
        f"Probability of {plain(name)}",
        share(found.after),
        f"from {share(found.before)}",
        delta_color="off",
        delta_arrow="off",
        help="With all rows, and without the most helpful ones; means over the seeds.",
        border=True,
        height="stretch",
    )
    second.metric(
        "Predictions turned",
        share(found.changes["top"].turned),
        f"of {counted(len(found.seeds), 'seed')}",
        delta_color="off",
        delta_arrow="off",
        help="Share of seeds in which the retrained model says another class without these rows.",
        border=True,
        height="stretch",
    )
    digits = decimals(found.alike.mean)
    third.metric(
        "Beyond their class",
        to(found.alike.mean, digits),
        f"{to(found.alike.low, digits)} to {to(found.alike.high, digits)}",
        delta_color="off",
        delta_arrow="off",
        help="By how much more the loss rises than without as many random rows of the same labels: what these very "
        "rows do, beyond being of that class.",
        border=True,
        height="stretch",
    )


def removed_rows(project: Project, question: Question, found: Removal) -> None:
    """Draw the removed rows, the most helpful first."""
    try:
        scored = answer(project, question)
    except AuditError:
        return  # the ranking was deleted; the check stands without its pictures
    st.markdown("#### The removed rows", anchors=False)
    gallery(
        answers.training_tiles(project.audit, project.ref, scored, found.top[: 2 * SHOWN]),
        key=state.REMOVED_ROWS,
        label="Removed rows",
        follow=False,
    )
    if len(found.top) > 2 * SHOWN:
        st.caption(f"The first {2 * SHOWN} of {len(found.top)}.")
