"""One training row opened: what it is, what it did, and what it would have done under another label."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from forwardinf_core.errors import AuditError
from forwardinf_core.ui import answers, state, texts, thumbs
from forwardinf_core.ui.attribution.question import Project
from forwardinf_core.ui.components.bars import Bar, bars
from forwardinf_core.ui.components.passage import passage
from forwardinf_core.ui.components.picture import picture
from forwardinf_core.ui.wording import class_name, counted, effect, plain, signed, standing

if TYPE_CHECKING:
    from forwardinf_core.audits.records import Attribution


def detail(project: Project, answer: Attribution, position: int | None) -> None:
    """Draw the opened row beside its candidate labels."""
    with st.container(border=True, key=state.OPENED_ROW):
        if position is None:
            st.caption("The link names a training row that this project does not have. Choose a row above to open it.")
            return
        audit = project.audit
        is_text = audit.content == "text"
        image, words, labels = st.columns([1.6, 1.2, 1.3] if is_text else [0.8, 1.5, 1.7], gap="medium")
        with image:
            alt = f"training row {audit.train_ids[position]}"
            if is_text:
                passage(texts.of_row(audit, "train", position), key=state.ROW_TEXT, label=alt)
            else:
                picture(thumbs.address(project.ref, "train", position), key=state.ROW_PICTURE, alt=alt, width=150)
        with words, st.container(gap="xsmall"):
            describe(project, answer, position)
        with labels, st.container(gap="xsmall"):
            other_labels(project, answer, position)


def describe(project: Project, answer: Attribution, position: int) -> None:
    """Say what the row is and what it did."""
    audit, scores = project.audit, answer.scores
    score, percentile = float(scores.score[position]), float(scores.percentile[position])
    colour = {"helped": "green", "hurt": "red"}.get(effect(score), "gray")
    label = plain(class_name(audit.classes, int(audit.train_labels[position])))
    st.markdown(f"**{plain(audit.train_ids[position])}**, labelled **{label}**")
    st.markdown(
        f":{colour}[**{effect(score).capitalize()}**]: {standing(score, percentile)} "
        f"of {counted(len(scores.score), 'row')}."
    )
    st.caption(f"Score {signed(score)} · own loss {float(scores.base_loss[position]):.3g}")
    planted = audit.planted(position)
    if planted:
        st.badge(
            plain(planted), icon=":material/flag:", color="orange", help="Planted on purpose when the demo was made."
        )


def other_labels(project: Project, answer: Attribution, position: int) -> None:
    """Draw the score the row would have under other labels."""
    audit = project.audit
    own = int(audit.train_labels[position])
    st.markdown("**Under another label**", help="The same forward passes, read with another label: no new computation.")
    try:
        scores = audit.candidate_scores(answer, position)
    except AuditError as error:
        st.caption(f"{plain(error.title)} {plain(error.hint)}")
        return
    shown = answers.candidates(scores, own, answer.target)
    reach = max((abs(candidate.score) for candidate in shown), default=0.0) or 1.0
    bars(
        [
            Bar(
                name=audit.classes[candidate.code],
                start=0.5 + min(0.0, candidate.score / reach) / 2,
                end=0.5 + max(0.0, candidate.score / reach) / 2,
                value=effect(candidate.score),
                mark="now" if candidate.code == own else "",
                tone=answers.tone_of(candidate.score),
            )
            for candidate in shown
        ],
        key=state.ROW_LABELS,
        label="Effect under other labels",
        zero=0.5,
    )
    turn = answers.turning_label(scores, own)
    if turn is not None:
        now, then = effect(float(scores[own])), effect(float(scores[turn]))
        st.caption(f"As ‘{plain(audit.classes[turn])}’ it would have {then} instead of {now}.")
