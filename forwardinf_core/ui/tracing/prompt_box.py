"""The prompt and its completion: typed, suggested, token by token, and the words that are asked about."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import streamlit as st

from forwardinf_core.ui import address, state
from forwardinf_core.ui.components.tokens import TokenTile, tokens
from forwardinf_core.ui.frame import TracingProject
from forwardinf_core.ui.tracing.question import Link, ask
from forwardinf_core.ui.wording import plain, whole_percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forwardinf_core.audits.tracing.records import Said
    from forwardinf_core.models.language_text import Token

LONGEST_PROMPT = 20_000  # characters; the model's own limit is told in a sentence


def prompt_box(project: TracingProject, link: Link) -> None:
    """Draw the two fields; the link is the truth, so that Back and Forward work."""
    is_pair = project.audit.task == "seq2seq-lm"
    for key, value in ((state.TRACE_PROMPT, link.prompt), (state.TRACE_COMPLETION, link.completion)):
        shown = f"{key}-shown"
        if st.session_state.get(shown) != value:
            st.session_state[shown] = st.session_state[key] = value
    with st.form(state.TRACE_FORM, border=False):
        wide, narrow, button = st.columns([5, 3, 1], vertical_alignment="bottom")
        wide.text_input(
            "Input" if is_pair else "Prompt",
            key=state.TRACE_PROMPT,
            placeholder="Text the model should turn into another" if is_pair else "The beginning of a text",
            max_chars=LONGEST_PROMPT,
        )
        narrow.text_input(
            "Completion", key=state.TRACE_COMPLETION, placeholder="Empty: the model's own", max_chars=LONGEST_PROMPT
        )
        button.form_submit_button("Trace", type="primary", width="stretch", on_click=_submitted)


def suggestions(project: TracingProject) -> None:
    """Draw prompts to begin with."""
    found = project.audit.suggestions()
    if not found:
        return
    st.caption("Try one of these:")
    with st.container(horizontal=True, gap="small"):
        for number, prompt in enumerate(found):
            st.button(plain(prompt) + " …", key=f"{state.TRACE_SUGGESTION}-{number}", on_click=ask, args=(prompt, ""))


def said_line(asked: Said, *, key: str) -> None:
    """Draw prompt and completion as tokens with their probabilities; the chosen ones are asked about."""
    shown = characters_of(asked.tokens)
    tiles = [
        TokenTile(
            asked.tokens[places[0]].text,
            whole_percent(math.prod(asked.tokens[one].probability for one in places))
            if is_predicted(asked, places[0])
            else "",
            "read" if asked.tokens[places[0]].in_prompt else "said",
            can_pick=is_predicted(asked, places[0]),
        )
        for places in shown
    ]
    tokens(
        tiles,
        key=key,
        label="Tokens of the prompt and its completion; chosen ones are asked about",
        picked=[tile for tile, places in enumerate(shown) if places[0] in asked.target],
        on_pick=lambda picked: address.go(span=",".join(str(one) for tile in picked for one in shown[tile]), text=""),
    )
    who = "The model completes" if asked.own else "Asked about"
    st.caption(
        f"{who} **{plain(asked.completion)}**. The number under a token is the probability the model gives it. "
        f"Click or drag over tokens to ask about others; now: **{plain(asked.target_text)}**."
    )


def characters_of(asked: Sequence[Token]) -> list[list[int]]:
    """Return the positions of the tokens of each tile: those that are bytes of one character stand together.

    Tokens without a character of their own, such as the one that begins a text, and spaces alone have no tile.
    """
    tiles: list[list[int]] = []
    is_open = False
    for place, token in enumerate(asked):
        if token.text.strip():
            tiles.append([place])
            is_open = True
        elif token.text:
            is_open = False
        elif is_open:
            tiles[-1].append(place)
    return tiles


def is_predicted(asked: Said, place: int) -> bool:
    """Say whether the model gives a token a probability: the first one of a text has none."""
    return not math.isnan(asked.tokens[place].probability)


def could_say(asked: Said) -> None:
    """Draw what the model could have said right after the prompt; each is one click from a comparison."""
    others = [one for one in asked.alternatives if one.text and one.text != asked.completion]
    if not others:
        return
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="left", gap="small"):
        st.caption("It could also say", width="content")
        for number, one in enumerate(others[:4]):
            st.button(
                f"{plain(one.text)} · {whole_percent(one.probability)}",
                key=f"{state.TRACE_OTHER}-{number}",
                type="tertiary",
                help="Compare the two completions side by side.",
                on_click=address.go,
                kwargs={"other": one.text, "text": ""},
            )


def _submitted() -> None:
    ask(st.session_state[state.TRACE_PROMPT], st.session_state[state.TRACE_COMPLETION])
