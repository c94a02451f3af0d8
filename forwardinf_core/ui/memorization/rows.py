"""The ranked rows of the memorization screen, and the one that is open with its nearest rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from forwardinf_core.ui import address, frame, messages, state, texts, thumbs
from forwardinf_core.ui.attribution.question import Project
from forwardinf_core.ui.components.gallery import Tile, gallery
from forwardinf_core.ui.components.passage import passage
from forwardinf_core.ui.components.picture import picture
from forwardinf_core.ui.memorization import session
from forwardinf_core.ui.memorization.session import Place
from forwardinf_core.ui.wording import class_name, counted, plain, share, standing, whole_percent

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator

    from forwardinf_core.audits.memorization.records import Memorization

PER_PAGE = 120
NEAREST = 8
ALL = -1  # among the classes to choose from
GALLERY_HEIGHT = 520
REVIEW = frame.PAGES / "review.py"


def filters(project: Project, found: Memorization, place: Place) -> None:
    """Draw the histogram and the choice of a class."""
    from forwardinf_core.audits.memorization import choosing
    from forwardinf_core.ui.memorization.charts import histogram

    classes = project.audit.classes
    st.session_state[state.MEM_CLASS] = ALL if place.chosen.label is None else place.chosen.label
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        st.selectbox(
            "Class",
            [ALL, *range(len(classes))],
            format_func=lambda code: "all classes" if code == ALL else classes[code],
            key=state.MEM_CLASS,
            width=220,
            on_change=choose_class,
        )
        if place.chosen.low is not None:
            st.button(
                "Clear the range",
                key=state.MEM_CLEAR,
                icon=":material/close:",
                type="tertiary",
                on_click=address.go,
                kwargs={"low": "", "high": "", "page": ""},
            )
    histogram(found.run_id, choosing.histogram(found, place.chosen.label), place.chosen)


def choose_class() -> None:
    """Keep the chosen class in the link."""
    code = st.session_state[state.MEM_CLASS]
    address.go(label="" if code == ALL else str(code), row="", page="")


def rows_part(project: Project, found: Memorization, place: Place) -> None:
    """Draw the ranked rows beside the open one."""
    from forwardinf_core.audits.memorization.choosing import chosen_rows

    rows = chosen_rows(found, place.chosen)
    if not len(rows):
        messages.show_empty("No row is in this range.", "Drag over another part of the histogram, or clear the range.")
        return
    shown = rows[: PER_PAGE * place.page].tolist()
    ids = {found.ids[position]: position for position in rows.tolist()}
    opened = ids.get(place.row, shown[0])
    tiles_side, row_side = st.columns([1.35, 1], gap="large")
    with tiles_side:
        st.caption(f"{counted(len(rows), 'row')}, the most memorized first")
        with st.container(height=GALLERY_HEIGHT, border=False):
            gallery(
                [tile_of(project, found, position) for position in shown],
                key=state.MEM_ROWS,
                label="Training rows by memorization",
                selected=found.ids[opened],
                tile_width=84,
                on_select=lambda row_id: address.go(row=row_id),
            )
            if len(rows) > len(shown):
                st.button(
                    f"Show {min(PER_PAGE, len(rows) - len(shown))} more",
                    key=state.MEM_PAGE,
                    on_click=address.go,
                    kwargs={"page": str(place.page + 1)},
                )
    with row_side, messages.guard():
        opened_row(project, found, opened)


def tile_of(project: Project, found: Memorization, position: int) -> Tile:
    """Return the tile of one row."""
    audit = project.audit
    return Tile(
        id=found.ids[position],
        src=thumbs.address(project.ref, "train", position),
        text=texts.on_tile(audit, "train", position),
        title=class_name(audit.classes, int(found.labels[position])),
        note=figure_of(found, position),
        hint=f"row {found.ids[position]}",
        badge="wrong label" if audit.planted(position).startswith("Planted wrong") else "",
    )


def figure_of(found: Memorization, position: int) -> str:
    """Return the row's figure in a few signs: its memorization where retraining gave it, else where it stands."""
    if found.reference is not None and found.reference.is_said(position):
        return whole_percent(max(float(found.reference.memorization[position]), 0.0))
    return standing(1.0, float(found.percentile[position]))


def opened_row(project: Project, found: Memorization, position: int) -> None:
    """Draw the open row: its picture or text, what is known of it, its nearest rows, and where to go from here."""
    from forwardinf_core.audits.memorization.records import sentence_of

    audit = project.audit
    with st.container(border=True, gap="small"):
        with content_of(project, position, found.ids[position]), st.container(gap="xsmall"):
            label = plain(class_name(audit.classes, int(found.labels[position])))
            st.markdown(f"**{plain(found.ids[position])}**, labelled **{label}**")
            st.markdown(plain(sentence_of(found, position)))
            st.caption(
                f"The model gives this label {share(float(found.chance[position]))} now; loss "
                f"{float(found.loss[position]):.3g}, score {float(found.score[position]):.3g}."
            )
            planted = audit.planted(position)
            if planted:
                st.badge(plain(planted), icon=":material/flag:", color="orange")
        nearest_rows(project, found, position)
        st.page_link(
            REVIEW,
            label="Decide on this row in the review",
            icon=":material/fact_check:",
            query_params={"row": found.ids[position], "rows": "all", "show": "all"},
        )


def content_of(project: Project, position: int, row_id: str) -> DeltaGenerator:
    """Draw a row's picture or text and return the place for words on it: beside a picture, below a text."""
    name = f"training row {row_id}"
    if project.audit.content == "text":
        passage(texts.of_row(project.audit, "train", position), key=state.MEM_ROW, label=name)
        return st.container()
    image, words = st.columns([1, 1.7], gap="medium")
    with image:
        picture(thumbs.address(project.ref, "train", position), key=state.MEM_ROW, alt=name, width=190)
    return words


def nearest_rows(project: Project, found: Memorization, position: int) -> None:
    """Draw the training rows nearest to the open one by the features before the head."""
    space = session.neighbours(project.audit.model.fingerprint, project.audit.train.fingerprint, project)
    if space is None:
        return
    audit = project.audit
    near, alike = space.nearest(position, NEAREST)
    same = int((found.labels[near] == found.labels[position]).sum())
    st.caption(f"Its nearest rows, by the features before the head: {same} of {len(near)} carry the same label.")
    gallery(
        [
            Tile(
                id=found.ids[one],
                src=thumbs.address(project.ref, "train", one),
                text=texts.on_tile(audit, "train", one),
                title=class_name(audit.classes, int(found.labels[one])),
                note=f"{cosine:.2f}",
                hint=f"row {found.ids[one]}",
            )
            for one, cosine in zip(near.tolist(), alike.tolist(), strict=True)
        ],
        key=state.MEM_NEAR,
        label="Nearest training rows",
        tile_width=70,
        follow=False,
        on_select=lambda row_id: address.go(row=row_id),
    )
