"""The picture asked about, large and with its pixels sharp, and the way to a second one that differs in one setting."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from forwardinf_core.ui import address, state, thumbs
from forwardinf_core.ui.components.picture import picture as draw_picture
from forwardinf_core.ui.frame import GenerationProject
from forwardinf_core.ui.generation.listing import picture_words
from forwardinf_core.ui.generation.maker import class_names
from forwardinf_core.ui.generation.question import USUAL_GUIDANCE, USUAL_STEPS, Link

if TYPE_CHECKING:
    from forwardinf_core.audits.generation.records import Picture

WIDTH = 250  # pixels
NAMES = {"prompt": "Class", "seed": "Seed", "steps": "Steps", "guidance": "Guidance"}


def picture_card(
    project: GenerationProject, picture: Picture, *, name: str = "", width: int = WIDTH, is_wide: bool = False
) -> None:
    """Draw a picture with what it is: under it, or beside it where the card is wide."""
    words = picture_words(project, picture)
    places = st.columns([1, 2], vertical_alignment="center") if is_wide else [st.container(), st.container()]
    with places[0]:
        draw_picture(
            thumbs.address(project.ref, thumbs.SHOWN, picture.query),
            key=state.side(state.GEN_PICTURE, name),
            alt=words.replace("*", "").replace("\\", ""),
            width=width,
        )
    places[1].markdown(words)


def settings_to_change(project: GenerationProject, link: Link) -> list[str]:
    """Return the settings in which a second picture can differ from the one in the link."""
    model = project.audit.model
    found = ["prompt"] if model.condition in ("class", "text") else []
    if link.picture or link.run:
        return found if link.picture else []
    return [*found, "seed", "steps", *(["guidance"] if model.null_label is not None else [])]


def compare_choice(project: GenerationProject, link: Link) -> None:
    """Draw the choice of one setting and its other value."""
    found = settings_to_change(project, link)
    if not found:
        return
    with st.popover("Compare", icon=":material/compare_arrows:", width="stretch"):
        st.caption("A second picture that differs in one setting, and what made each of the two.")
        differ = st.selectbox("Setting", found, format_func=NAMES.__getitem__, key=state.GEN_DIFFER)
        other = _other_value(project, link, differ)
        st.button(
            "Compare",
            key=state.GEN_COMPARE_DO,
            type="primary",
            width="stretch",
            disabled=other is None,
            on_click=address.go,
            kwargs={"differ": differ, "other": other or "", "row": "", "run": ""},
        )


def _other_value(project: GenerationProject, link: Link, differ: str) -> str | None:
    model = project.audit.model
    key = state.side(state.GEN_OTHER, differ)
    if differ == "prompt" and model.condition == "class":
        return str(st.selectbox("The other", [name for name in class_names(project) if name != link.prompt], key=key))
    if differ == "prompt":
        return st.text_input("The other", key=key, max_chars=1_000) or None
    if differ == "guidance":
        usual = 1.0 if _number(link.guidance, USUAL_GUIDANCE) != 1.0 else 3.0
        return f"{st.number_input('The other', 0.0, 20.0, usual, 0.5, key=key):g}"
    usual_step = max(_number(link.steps, USUAL_STEPS) // 2, 1)
    usual_of = {"seed": _number(link.seed, 0) + 1, "steps": usual_step}
    most = model.n_timesteps if differ == "steps" else 2**32 - 1
    found = st.number_input("The other", 0 if differ == "seed" else 1, most, int(usual_of[differ]), 1, key=key)
    return str(found)


def _number(text: str, usual: float) -> float:
    try:
        return float(text or usual)
    except ValueError:
        return float(usual)
