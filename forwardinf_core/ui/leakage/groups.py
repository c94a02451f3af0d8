"""Groups of rows that are copies of each other, over both splits: one tile a group, its rows below."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from forwardinf_core.ui import address, messages, state, texts, thumbs
from forwardinf_core.ui.attribution.question import Project
from forwardinf_core.ui.components.gallery import Tile, gallery
from forwardinf_core.ui.leakage.session import Place
from forwardinf_core.ui.wording import class_name, counted, whole_percent

if TYPE_CHECKING:
    from forwardinf_core.audits.leakage.records import Group, Leakage

MOST_SHOWN = 200
GALLERY_HEIGHT = 300


def groups_part(project: Project, found: Leakage, place: Place) -> None:
    """Draw the groups, those over both splits first, and the rows of the open one."""
    if not found.groups:
        messages.show_empty(
            "No two rows are copies of each other.", "Neither within a split nor across.", icon=":material/verified:"
        )
        return
    order = sorted(range(len(found.groups)), key=lambda number: _rank(found.groups[number]))[:MOST_SHOWN]
    across = sum(bool(group.train and group.test) for group in found.groups)
    conflicts = sum(group.has_conflict for group in found.groups)
    st.caption(
        f"{counted(len(found.groups), 'group')}: {across:,} over both splits, {conflicts:,} with conflicting labels. "
        + ("" if project.audit.content == "text" else "Within a split, rows are compared as they are, not mirrored.")
    )
    opened = int(place.group) if place.group.isdigit() and int(place.group) < len(found.groups) else order[0]
    with st.container(height=GALLERY_HEIGHT, border=False):
        gallery(
            [tile_of_group(project, found.groups[number], number) for number in order],
            key=state.LEAK_GROUPS,
            label="Groups of duplicates",
            selected=str(opened),
            tile_width=84,
            on_select=lambda number: address.go(group=number),
        )
    group = found.groups[opened]
    with st.container(border=True, gap="small"):
        st.markdown(f"**{counted(group.size, 'row')}**, held together by a confidence of at least {group.score:.2f}")
        if group.has_conflict:
            st.badge("conflicting labels", color="red")
        gallery(
            members(project, group),
            key=state.LEAK_MEMBERS,
            label="Rows of this group",
            tile_width=104,
            follow=False,
        )


def tile_of_group(project: Project, group: Group, number: int) -> Tile:
    """Return the tile of a group: its first row, and how many there are."""
    split, position = ("test", group.test[0]) if group.test else ("train", group.train[0])
    return Tile(
        id=str(number),
        src=thumbs.address(project.ref, split, position),
        text=texts.on_tile(project.audit, split, position),
        title=counted(group.size, "row"),
        note=whole_percent(group.score),
        badge="label conflict" if group.has_conflict else "",
        hint=f"{len(group.train)} training and {len(group.test)} test rows that are copies of each other",
    )


def members(project: Project, group: Group) -> list[Tile]:
    """Return the tiles of a group's rows, test rows first."""
    audit = project.audit
    rows = [("test", position) for position in group.test] + [("train", position) for position in group.train]
    tiles = []
    for split, position in rows:
        ids, labels = (audit.test_ids, audit.test.labels) if split == "test" else (audit.train_ids, audit.train_labels)
        tiles.append(
            Tile(
                id=f"{split}:{ids[position]}",
                src=thumbs.address(project.ref, split, position),
                text=texts.on_tile(audit, split, position),
                title=ids[position],
                note=class_name(audit.classes, int(labels[position])),
                badge=split,
            )
        )
    return tiles


def _rank(group: Group) -> tuple[bool, bool, int]:
    return (not (group.train and group.test), not group.has_conflict, -group.size)
