"""Does it hold? The check of a picture's answer by retraining: what it costs, how far it is, what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from forwardinf_core.errors import ModelError
from forwardinf_core.ui import messages, state, thumbs
from forwardinf_core.ui.components.gallery import Tile, gallery
from forwardinf_core.ui.frame import GenerationProject
from forwardinf_core.ui.verify.removal import BADGES, decimals, to
from forwardinf_core.ui.wording import counted, plain
from forwardinf_core.ui.work.cost import cost_of, start_button
from forwardinf_core.ui.work.waiting import follow, newest

if TYPE_CHECKING:
    from forwardinf_core.audits.generation.records import Generation, Picture
    from forwardinf_core.verification.picture_removal import PictureRemoval, PictureRemovalOptions, Way

NAMES: dict[Way, str] = {
    "all": "All images",
    "top": "Without those that helped",
    "random": "Without random ones",
    "alike": "Without random, same classes",
}
ENDINGS = {
    "green": "So the answer holds.",
    "amber": "On average the answer holds; these seeds cannot tell it from chance.",
    "red": "So these images did not make it: the answer does not hold.",
}


def check_panel(project: GenerationProject, picture: Picture, found: Generation) -> None:
    """Draw the check of an answer: its result, the work on it, or the offer to begin."""
    from forwardinf_core.audits.generation.methods import Method
    from forwardinf_core.verification import picture_removal as service

    with st.container(border=True, gap="small"), messages.guard():
        st.markdown("**Does it hold?**", help="The model is trained anew without the images that helped most.")
        try:
            options = service.options_of(project.audit, picture, Method(**found.options))  # type: ignore[arg-type]
        except ModelError as error:
            st.caption(f":material/info: {plain(error.title)} {plain(error.hint)}")
            return
        known = service.stored(project.audit, options)
        if known is not None:
            result(project, picture, known)
            return
        job = newest(project.audit.folder, service.KIND, options)
        if job is not None:
            follow(project.ref, job)
        if job is None or not job.is_active:
            offer(project, options)


def offer(project: GenerationProject, options: PictureRemovalOptions) -> None:
    """Say what the check does and what it costs, and offer to start it."""
    from forwardinf_core.audits.generation.costs import dry_run_of, of_trainings
    from forwardinf_core.verification import picture_removal as service
    from forwardinf_core.verification.denoiser_recipe import epochs_of

    trainings = service.trainings_of(options)
    st.caption(
        f"{counted(options.seeds, 'seed')}, each trained on all images, without the {counted(options.k, 'image')} that "
        f"helped most, without as many at random, and at random of the same classes: {trainings} trainings. They are "
        "kept: stopped, it goes on where it was."
    )
    rounds = epochs_of(project.audit)
    cost = cost_of(
        dry_run_of(project.audit), lambda rates: of_trainings(project.audit, trainings, rounds, rates), name="check"
    )
    start_button(
        "Retrain without them",
        cost,
        key=state.GEN_CHECK,
        icon=":material/play_arrow:",
        on_click=lambda: service.start(project.audit, options),
    )


def result(project: GenerationProject, picture: Picture, found: PictureRemoval) -> None:
    """Draw a finished check: the verdict in a sentence, and what the same seed paints now."""
    from forwardinf_core.verification.removal_ladder import RULE

    word, icon, colour = BADGES[found.verdict]
    st.badge(word, icon=icon, color=colour)
    st.markdown(sentence(found))
    if found.paintings:
        tiles = [Tile("asked", thumbs.address(project.ref, thumbs.SHOWN, picture.query), "This picture", note="")]
        for way in (way for way in NAMES if way in found.paintings):
            apart = float(found.apart[way].mean())
            tiles.append(
                Tile(
                    way,
                    thumbs.address(project.ref, thumbs.SHOWN, found.paintings[way]),
                    NAMES[way],
                    note=f"{apart:.3f} apart",
                    hint=f"{NAMES[way]}: the mean squared difference from this picture, pixels from 0 to 1, over "
                    f"{counted(len(found.apart[way]), 'seed')}",
                )
            )
        gallery(tiles, key=state.GEN_REPAINTED, label="What the same seed paints", tile_width=112, follow=False)
        st.caption("What the same seed paints after retraining; shown is the first of the seeds.")
    for name in found.failed:
        st.caption(f":orange[:material/warning:] Failed and left out, with its seed: {plain(name)}.")
    st.caption(RULE)


def sentence(found: PictureRemoval) -> str:
    """Say what was found, in words."""
    random = float((found.losses["random"] - found.losses["all"]).mean())
    digits = decimals(found.rise.mean)
    way = "rises" if found.rise.mean > 0 else "falls"
    images = "image" if found.options.k == 1 else f"**{found.options.k}** images"
    return (
        f"Without the {images} that helped most, the picture's loss {way} by "
        f"**{abs(found.rise.mean):.{digits}f}** (95%: {to(found.rise.low, digits)} to {to(found.rise.high, digits)}), "
        f"from {found.losses['all'].mean():.{digits}f}; without as many random ones it changes by "
        f"**{to(random, digits)}**. {ENDINGS[found.verdict]}"
    )
