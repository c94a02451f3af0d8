"""The query: its picture, what the model says of it, and the class the question is about."""

from __future__ import annotations

import streamlit as st

from forwardinf_core.ui import address, answers, state, thumbs
from forwardinf_core.ui.attribution.question import OWN_LABEL, Project, Question
from forwardinf_core.ui.components.bars import Bar, bars
from forwardinf_core.ui.components.picture import picture
from forwardinf_core.ui.wording import class_name, plain, share

OTHER = "other"


def query_card(project: Project, question: Question) -> None:
    """Draw the query with its prediction and the choice of the class asked about."""
    with st.container(border=True, gap="small"):
        picture(source_of(project, question.query), key=state.QUERY_PICTURE, alt=spoken_name(question.query), width=216)
        st.markdown(verdict(project, question))
        class_bars(project, question, key=state.QUERY_BARS)
        target_picker(project, question)


def source_of(project: Project, query: str) -> str:
    """Return the address of a query's picture as the model sees it."""
    return thumbs.address(project.ref, thumbs.SHOWN, query)


def spoken_name(query: str) -> str:
    """Return a query's name for people: "test row 17", "your image"."""
    kind, _, name = query.partition(":")
    return f"test row {name}" if kind == "test" else "your image"


def verdict(project: Project, question: Question) -> str:
    """Say in one sentence what the model and the label say."""
    said = question.prediction
    name = plain(class_name(project.audit.classes, said.prediction))
    sentence = f"The model says **{name}**, {share(said.confidence)} sure."
    if said.label < 0:
        return f"{sentence} :gray[This image has no label.]"
    if said.label == said.prediction:
        return f"{sentence} So does the label."
    return f"{sentence} The label says **{plain(class_name(project.audit.classes, said.label))}**. :red-badge[wrong]"


def class_bars(project: Project, question: Question, *, key: str) -> None:
    """Draw the probabilities of the classes that matter here."""
    said = question.prediction
    bars(
        [
            Bar(
                name=project.audit.classes[code],
                start=0.0,
                end=float(said.probabilities[code]),
                value=share(float(said.probabilities[code])),
                mark="label" if code == said.label else "",
                tone="accent" if code == question.target else "quiet",
            )
            for code in answers.class_shares(said, question.target)
        ],
        key=key,
        label="Probabilities by class",
    )


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
