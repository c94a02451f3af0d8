"""The query's card with the choice of the class the question is about."""

from __future__ import annotations

import streamlit as st

from forwardinf_core.ui import address, state
from forwardinf_core.ui.attribution.drawn import card_of
from forwardinf_core.ui.attribution.question import OWN_LABEL, Project, Question
from forwardinf_core.ui.components.card import card
from forwardinf_core.ui.wording import class_name, plain

OTHER = "other"


def query_card(project: Project, question: Question) -> None:
    """Draw the query with its prediction and the choice of the class asked about."""
    with st.container(border=True, gap="small"):
        card(card_of(project, question), key=state.QUERY_CARD)
        target_picker(project, question)


def target_picker(project: Project, question: Question) -> None:
    """Draw the choice of the class asked about; it is kept in the link."""
    said, classes = question.prediction, project.audit.classes
    options = ["predicted", *([OWN_LABEL] if said.label not in {-1, said.prediction} else []), OTHER]
    words = {
        "predicted": f"Why {plain(classes[said.prediction])}?",
        OWN_LABEL: f"Why not {plain(class_name(classes, said.label))}?",
        OTHER: "Other",
    }
    chosen = "predicted" if question.target == said.prediction else OTHER
    if OWN_LABEL in options and question.target == said.label:
        chosen = OWN_LABEL
    others = [code for code in range(len(classes)) if code not in {said.prediction, said.label}] or [said.prediction]

    def changed() -> None:
        picked = st.session_state[state.TARGET]
        address.go(target={"predicted": "", OWN_LABEL: OWN_LABEL}.get(picked, str(others[0])))

    def changed_class() -> None:
        address.go(target=str(st.session_state[state.TARGET_CLASS]))

    st.session_state[state.TARGET] = chosen
    st.pills(
        "Ask",
        options,
        format_func=words.__getitem__,
        required=True,
        key=state.TARGET,
        on_change=changed,
        width="stretch",
        help="The class whose loss the scores are about. ‘Why’ shows the rows that push the model towards the class it "
        "chose; ‘why not’ those that would have pushed it towards the label, and those that pushed it away.",
    )
    if chosen == OTHER:
        st.session_state[state.TARGET_CLASS] = question.target
        st.selectbox(
            "Class asked about",
            sorted({*others, question.target}),
            format_func=lambda code: classes[code],
            key=state.TARGET_CLASS,
            on_change=changed_class,
        )
