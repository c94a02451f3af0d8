"""The memorization screen of a language model: texts ranked, the words of each that lean on it, the open one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import streamlit as st

from forwardinf_core.ui import address, frame, messages, state
from forwardinf_core.ui.components.bars import Bar, bars
from forwardinf_core.ui.components.passages import Passage, passages
from forwardinf_core.ui.frame import TracingProject
from forwardinf_core.ui.memorization.charts import histogram
from forwardinf_core.ui.memorization.session import Place
from forwardinf_core.ui.texts import visible
from forwardinf_core.ui.thumbs import token_of
from forwardinf_core.ui.tracing.detail import verdict
from forwardinf_core.ui.tracing.listing import runs_of
from forwardinf_core.ui.wording import counted, plain, share, standing

if TYPE_CHECKING:
    from forwardinf_core.audits.tracing.audit import TracingAudit
    from forwardinf_core.audits.tracing.memorization import MemorizedTexts
    from forwardinf_core.audits.tracing.records import TokenShare

PER_PAGE = 10
STRONGEST = 8
NEAREST = 3
TRACING = frame.PAGES / "tracing.py"
PROMPT_WORDS = 5  # of a text that is asked about on the tracing page


def memorized(project: TracingProject) -> MemorizedTexts | None:
    """Return the finished audit, or None."""
    from forwardinf_core.audits.tracing import memorization

    run_id = memorization.finished(project.audit)
    return None if run_id is None else _memorized(token_of(project.ref), run_id, project.audit)


def texts_part(project: TracingProject, found: MemorizedTexts, place: Place) -> None:
    """Draw the histogram, the ranked texts and the open one."""
    from forwardinf_core.audits.memorization.choosing import bars_of, powers_of_ten

    st.caption(
        ":material/info: An estimate, from each text's influence on itself by token; nothing was retrained. Marked are "
        "the words that the model would lose first if it unlearned the text."
    )
    value = powers_of_ten(found.score)
    if place.chosen.low is not None:
        st.button(
            "Clear the range",
            key=state.MEM_CLEAR,
            icon=":material/close:",
            type="tertiary",
            on_click=address.go,
            kwargs={"low": "", "high": "", "page": ""},
        )
    histogram(found.run_id, bars_of(value, value, is_log=True), place.chosen)
    order = found.ranked()
    if place.chosen.low is not None and place.chosen.high is not None:
        order = order[(value[order] >= place.chosen.low) & (value[order] <= place.chosen.high)]
    if not len(order):
        messages.show_empty("No text is in this range.", "Drag over another part of the histogram, or clear the range.")
        return
    shown = order[: PER_PAGE * place.page].tolist()
    opened = next((position for position in order.tolist() if found.ids[position] == place.row), shown[0])
    left, right = st.columns([1.55, 1], gap="large")
    with left:
        st.caption(f"{counted(len(order), 'text')}, the most memorized first")
        rows = [row_of(project, found, position) for position in shown]
        passages(
            rows,
            key=state.MEM_TEXTS,
            label="Training texts by memorization",
            selected=found.ids[opened],
            on_select=lambda own: address.go(row=own),
        )
        if len(order) > len(shown):
            st.button(
                f"Show {min(PER_PAGE, len(order) - len(shown))} more",
                key=state.MEM_PAGE,
                on_click=address.go,
                kwargs={"page": str(place.page + 1)},
            )
    with right, messages.guard():
        opened_text(project, found, opened)


def row_of(project: TracingProject, found: MemorizedTexts, position: int) -> Passage:
    """Return one text as the list shows it."""
    audit = project.audit
    chance = float(found.chance[position])
    return Passage(
        id=found.ids[position],
        runs=runs_of(tokens_of(project, found, position)),
        effect=standing(1.0, float(found.percentile[position])),
        tone="neutral",
        facts=(
            ("gives a word", share(chance) if chance == chance else "–"),
            ("words", f"{int(found.tokens[position]):,}"),
        ),
        badge="False on purpose" if is_false(audit, position) else "",
        badge_tone="hurt",
    )


def opened_text(project: TracingProject, found: MemorizedTexts, position: int) -> None:
    """Draw the open text: what is known of it, its most memorized words, the texts nearest to it, a decision."""
    from forwardinf_core.audits.tracing.memorization import sentence_of

    audit, own_id = project.audit, found.ids[position]
    with st.container(border=True, gap="small"):
        st.markdown(f"**{plain(own_id)}** · {standing(1.0, float(found.percentile[position]))} of all texts")
        st.code(visible(audit.texts[position]), language=None, wrap_lines=True)
        st.markdown(plain(sentence_of(found, position)))
        words(tokens_of(project, found, position), found.run_id)
        st.caption(
            f"By token: loss `{float(found.loss[position]):.3g}`, self-influence `{float(found.score[position]):.3g}`."
        )
        near = nearest_texts(token_of(project.ref), position, audit)
        st.caption("Its nearest texts, by mean hidden state:")
        for other, alike in near:
            st.caption(f"`{alike:.2f}` {plain(visible(audit.texts[other])[:160])}")
        verdict(project, own_id, float(found.score[position]), found.run_id)
    prompt = " ".join(audit.texts[position].split()[:PROMPT_WORDS])
    if prompt:
        st.page_link(
            TRACING,
            label="Trace what the model makes of its beginning",
            icon=":material/manage_search:",
            query_params={"prompt": prompt},
        )


def words(shares: Sequence[TokenShare], run_id: str) -> None:
    """Draw the words of a text that lean on it most."""
    order = [one for one in sorted(shares, key=lambda one: -one.score)[:STRONGEST] if one.score > 0]
    if not order:
        st.caption("No word of this text leans on it.")
        return
    largest, total = order[0].score, sum(max(one.score, 0.0) for one in shares)
    st.caption("The words that lean on it most, and their part of what would be lost:")
    bars(
        [
            Bar(one.text.strip() or "␣", 0.0, one.score / largest, share(one.score / total), tone="neutral")
            for one in order
        ],
        key=state.of_run(state.MEM_WORDS, run_id),
        label="Words that lean on this text most",
    )


def is_false(audit: TracingAudit, position: int) -> bool:
    """Say whether a text of a demo was made false on purpose."""
    return audit.truth is not None and audit.ids[position] in audit.truth.false_rows


def tokens_of(project: TracingProject, found: MemorizedTexts, position: int) -> tuple[TokenShare, ...]:
    """Return the tokens of a text with how much of each would be lost."""
    return _tokens(token_of(project.ref), found.run_id, position, project.audit)


@st.cache_resource(max_entries=4, show_spinner="Opening the scores")
def _memorized(token: str, run_id: str, _audit: TracingAudit) -> MemorizedTexts | None:  # noqa: ARG001  # they name it
    from forwardinf_core.audits.tracing import memorization

    return memorization.find(_audit)


@st.cache_resource(max_entries=512, show_spinner=False)
def _tokens(token: str, run_id: str, position: int, _audit: TracingAudit) -> tuple[TokenShare, ...]:  # noqa: ARG001
    from forwardinf_core.audits.tracing.memorization import memorized_tokens

    return memorized_tokens(_audit, position)


@st.cache_resource(max_entries=512, show_spinner=False)
def nearest_texts(token: str, position: int, _audit: TracingAudit) -> tuple[tuple[int, float], ...]:  # noqa: ARG001
    """Return the positions of the texts nearest to one, and their likeness."""
    from forwardinf_core.audits.tracing.memorization import nearest

    return nearest(_audit, position, NEAREST)
