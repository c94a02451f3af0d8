"""Traced pictures cut, ordered and put into words the way the screen shows them. No Streamlit here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from forwardinf_core.ui import thumbs, wording
from forwardinf_core.ui.answers import tone_of
from forwardinf_core.ui.components.bars import Bar
from forwardinf_core.ui.components.board import Side
from forwardinf_core.ui.components.gallery import Tile
from forwardinf_core.ui.frame import GenerationProject

if TYPE_CHECKING:
    from forwardinf_core.audits.generation.ranking import Group, Ranking
    from forwardinf_core.audits.generation.records import Generation, Picture

SHOWN = 12  # rows in each gallery
GROUPS_AT_EACH_END = 6
NOT_SCORED = "not scored"
LONGEST_CAPTION = 22  # characters, on a tile


def tiles(project: GenerationProject, ranking: Ranking, positions: NDArray[np.int64]) -> list[Tile]:
    """Return tiles of training images with their standing and a line as long as their effect."""
    largest = float(np.abs(ranking.scores.score).max(initial=0.0)) or 1.0
    return [_tile(project, ranking, position, largest) for position in positions.tolist()]


def _tile(project: GenerationProject, ranking: Ranking, position: int, largest: float) -> Tile:
    from forwardinf_core.audits.generation.facts import planted

    audit, place = project.audit, ranking.place(position)
    known = planted(audit, position)
    own = audit.train_ids[position]
    src = thumbs.source(audit, project.ref, "train", position)
    label = class_of(project, position)
    ending = f". {known}" if known else ""
    badge = "copy" if known else ""
    if place is None:
        return Tile(
            own,
            src,
            label,
            note=NOT_SCORED,
            badge=badge,
            hint=f"{own}: {NOT_SCORED}, outside the shortlist{ending}",
        )
    score = float(ranking.scores.score[place])
    standing = wording.standing(score, float(ranking.scores.percentile[place]))
    return Tile(
        own,
        src,
        label,
        note=standing.removeprefix("top ").removeprefix("bottom "),
        tone=tone_of(score),
        strength=abs(score) / largest,
        badge=badge,
        hint=f"{own}: {wording.effect(score)}, {standing} of {whole(ranking)}{ending}",
    )


def whole(ranking: Ranking) -> str:
    """Return what the standing of a row is counted among."""
    return wording.counted(len(ranking.positions), "image" if ranking.is_whole else "scored image")


def class_of(project: GenerationProject, position: int) -> str:
    """Return the class of a training image, or the beginning of its caption; empty where it has neither."""
    rows = project.audit.train
    if project.audit.captions:
        caption = project.audit.captions[position][0]
        return caption if len(caption) <= LONGEST_CAPTION else f"{caption[: LONGEST_CAPTION - 1]}…"
    return wording.class_name(rows.classes, int(rows.labels[position])) if len(rows.classes) > 1 else ""


def made_it(project: GenerationProject, ranking: Ranking, count: int = SHOWN) -> tuple[Side, Side]:
    """Return the two galleries of what helped and what hurt."""
    return (
        Side(
            label="Images that helped",
            tone="helped",
            heading="Helped",
            before="Learning these makes",
            subject="this picture",
            after="easier for the model to paint.",
            tiles=tuple(tiles(project, ranking, ranking.top(count))),
            empty="No image did. Every score points the other way.",
        ),
        Side(
            label="Images that hurt",
            tone="hurt",
            heading="Hurt",
            before="Learning these makes",
            subject="this picture",
            after="harder for the model to paint.",
            tiles=tuple(tiles(project, ranking, ranking.bottom(count))),
            empty="No image did. No score is below 0.",
        ),
    )


def alike(project: GenerationProject, found: Generation, ranking: Ranking) -> tuple[Side, Side]:
    """Return the two galleries of what the picture looks like: not what made it, but what to compare that with."""
    return (
        Side(
            label="Images alike in pixels",
            tone="neutral",
            heading="Alike in pixels",
            before="Closest by",
            subject="pixel distance",
            after="to the picture.",
            tiles=tuple(tiles(project, ranking, nearest(found.pixel))),
            empty="",
        ),
        Side(
            label="Images alike to the model",
            tone="neutral",
            heading="Alike to the model",
            before="Closest by",
            subject="the model’s own features",
            after="of the picture.",
            tiles=tuple(tiles(project, ranking, nearest(found.feature))),
            empty="",
        ),
    )


def nearest(likeness: NDArray[np.float32], count: int = SHOWN) -> NDArray[np.int64]:
    """Return the positions of the most alike rows, the nearest first."""
    return np.argsort(-likeness, kind="stable")[:count].astype(np.int64)


def overlap_line(found: Generation, ranking: Ranking) -> str:
    """Say how many of the rows that helped most are also the most alike."""
    helped = set(ranking.top(SHOWN).tolist())
    if not helped:
        return "No image helped, so there is nothing to compare these with."
    pixel, feature = (len(helped & set(nearest(kind).tolist())) for kind in (found.pixel, found.feature))
    return (
        f"These say what the picture looks like, not what made it. Of the {len(helped)} images that helped most, "
        f"{pixel} are among the {SHOWN} most alike in pixels and {feature} among the {SHOWN} most alike to the model."
    )


def planted_line(project: GenerationProject, ranking: Ranking) -> str:
    """Say how many of the rows shown are planted copies; empty where none were planted."""
    from forwardinf_core.audits.generation.facts import planted_copies

    known = planted_copies(project.audit)
    if not known:
        return ""
    shown = ranking.top(SHOWN).tolist()
    found = [known[position] for position in shown if position in known]
    originals = sorted(set(found))
    if not found:
        return f"None of the {len(shown)} that helped most is one of the copies planted in this demo."
    names = " and ".join(wording.plain(name) for name in originals)
    verb = "shows" if len(found) == 1 else "show"
    return f"{len(found)} of the {len(shown)} that helped most {verb} {names}, copied into this demo on purpose."


def rank_among(likeness: NDArray[np.float32], position: int) -> int:
    """Return the rank of a row by likeness, 1 = the most alike; ties share the better rank."""
    return int((likeness > likeness[position]).sum()) + 1


def picture_words(project: GenerationProject, picture: Picture) -> str:
    """Say in one sentence, in Markdown, what a picture is."""
    split, _, own = picture.query.partition(":")
    name = project.audit.name_of(picture.label)
    named = wording.plain(name) if name else ""
    if picture.made:
        made = picture.made
        details = f"seed {made['seed']:.0f}, {made['steps']:.0f} steps"
        guidance = made["guidance"]
        details += "" if guidance == 1 else f", guidance {guidance:g}"
        return f"Painted{f' as **{named}**' if named else ' without a class'}: {details}."
    asked = f", asked about as **{named}**" if named else ""
    if split in ("train", "test"):
        return f"{'Training' if split == 'train' else 'Test'} image **{wording.plain(own)}**{asked}."
    return f"Your picture, as the model sees it{asked}."


def _group_words(group: Group) -> str:
    if group.n_scored == group.n_rows:
        return f"{wording.counted(group.n_rows, 'image')}, {group.n_helped:,} helped"
    if not group.n_scored:
        return f"{wording.counted(group.n_rows, 'image')}, none scored"
    return f"{group.n_scored:,} of {wording.counted(group.n_rows, 'image')} scored, {group.n_helped:,} helped"


def group_bars(groups: list[Group]) -> list[Bar]:
    """Return the groups of either end as bars from a zero in the middle."""
    shown = (
        groups
        if len(groups) <= 2 * GROUPS_AT_EACH_END
        else [*groups[:GROUPS_AT_EACH_END], *groups[-GROUPS_AT_EACH_END:]]
    )
    reach = max((abs(group.score) for group in shown), default=0.0) or 1.0
    return [
        Bar(
            name=group.name,
            start=0.5 + min(0.0, group.score / reach) / 2,
            end=0.5 + max(0.0, group.score / reach) / 2,
            value=wording.signed(group.score),
            mark=_group_words(group),
            tone=tone_of(group.score),
        )
        for group in shown
    ]
