"""Where a picture comes from: painted by the model with settings of one's own, uploaded, or painted before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import parse_qsl, urlencode

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from forwardinf_core.errors import AuditError
from forwardinf_core.ui import messages, state, thumbs
from forwardinf_core.ui.components.gallery import Tile, gallery
from forwardinf_core.ui.frame import GenerationProject
from forwardinf_core.ui.generation.question import USUAL_GUIDANCE, USUAL_STEPS, Link, ask_for, link_to
from forwardinf_core.ui.wording import plain

PAINT, UPLOAD = "Paint", "Your picture"
NO_CLASS = ""
UPLOAD_TYPES = ["png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff"]
UPLOAD_LIMIT_MB = 20
PAINTED_SHOWN = 24
LARGEST_GUIDANCE = 20.0  # as the service allows


def maker(project: GenerationProject, link: Link, *, wide: bool) -> None:
    """Draw the choice between painting and uploading, and what belongs to it."""
    source = st.segmented_control(
        "Where the picture comes from",
        (PAINT, UPLOAD),
        default=UPLOAD if link.picture.startswith("image:") else PAINT,
        required=True,
        key=state.GEN_SOURCE,
        label_visibility="collapsed",
        persist_state="session",
    )
    if source == PAINT:
        paint_form(project, link, wide=wide)
    else:
        upload(project)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the fields begin with: what the link says, as far as this model can paint it.

    ``name`` is another one for every link, and so are the keys of the fields: fields of one link always begin with its
    values. A browser that missed the first drawing (another one began before it was sent) finds them in the next.
    """

    name: str  # "" where the link says nothing
    prompt: str
    seed: int
    steps: int
    guidance: float

    def key(self, key: str) -> str:
        """Return the key of a field."""
        return state.side(key, self.name) if self.name else key


def settings_of(project: GenerationProject, link: Link) -> Settings:
    """Return what the fields begin with."""
    model, said = project.audit.model, (link.prompt, link.seed, link.steps, link.guidance)
    prompt = link.prompt
    if model.condition == "class":
        names = class_names(project)
        prompt = link.prompt if link.prompt in names and not link.is_empty else names[0]
    try:
        guidance = float(link.guidance or USUAL_GUIDANCE)
    except ValueError:
        guidance = USUAL_GUIDANCE
    steps = _digits(link.steps, min(USUAL_STEPS, model.n_timesteps))
    return Settings(
        name=sha256(repr(said).encode()).hexdigest()[:12] if any(said) else "",
        prompt=prompt,
        seed=min(_digits(link.seed, 0), 2**32 - 1),
        steps=min(max(steps, 1), model.n_timesteps),
        guidance=min(max(guidance, 0.0), LARGEST_GUIDANCE),
    )


def paint_form(project: GenerationProject, link: Link, *, wide: bool) -> None:
    """Draw the settings and the button that paints; the link is the truth, so that Back and Forward work."""
    settings = settings_of(project, link)
    with st.form(state.GEN_FORM, border=not wide):
        cells = st.columns([1.3, 1, 1, 1.3, 0.9], vertical_alignment="bottom") if wide else _narrow_cells()
        _fields(project, settings, cells)
        cells[4].form_submit_button(
            "Paint",
            key=state.GEN_PAINT,
            type="primary",
            icon=":material/brush:",
            width="stretch",
            on_click=_submitted,
            args=(settings,),
        )
    painting_line(project, settings)
    unread_line(project, link.prompt)
    filter_line(project)
    if not wide and link.seed.isascii() and link.seed.isdigit():
        st.button(
            "Same with the next seed",
            key=state.GEN_NEXT,
            icon=":material/casino:",
            type="tertiary",
            on_click=lambda: ask_for(
                **{
                    "prompt": link.prompt,
                    "steps": link.steps,
                    "guidance": link.guidance,
                    "seed": str(int(link.seed) + 1),
                }
            ),
        )


def _fields(project: GenerationProject, settings: Settings, cells: Sequence[DeltaGenerator]) -> None:
    model = project.audit.model
    if model.condition == "class":
        names = class_names(project)
        cells[0].selectbox(
            "Class",
            names,
            index=names.index(settings.prompt),
            format_func=lambda name: name or "No class",
            key=settings.key(state.GEN_PROMPT),
        )
    elif model.condition == "text":
        cells[0].text_input("Prompt", settings.prompt, key=settings.key(state.GEN_PROMPT), max_chars=1_000)
    cells[1].number_input("Seed", 0, 2**32 - 1, settings.seed, 1, key=settings.key(state.GEN_SEED))
    cells[2].number_input("Steps", 1, model.n_timesteps, settings.steps, 1, key=settings.key(state.GEN_STEPS))
    if model.null_label is not None:
        cells[3].number_input(
            "Guidance",
            min_value=0.0,
            max_value=LARGEST_GUIDANCE,
            value=settings.guidance,
            step=0.5,
            format="%.1f",
            key=settings.key(state.GEN_GUIDANCE),
            help="1 = as trained. Above 1 the picture is more like its class, and less varied.",
        )


def painting_line(project: GenerationProject, settings: Settings) -> None:
    """Say what painting with the settings costs, once a dry run has shown it."""
    from forwardinf_core.audits.generation.costs import dry_run_of, of_painting

    rates = dry_run_of(project.audit).measured()
    if rates is None:
        return
    cost = of_painting(project.audit, settings.steps, settings.guidance, rates)
    st.caption(f":material/schedule: {plain(cost.brief[:1].upper() + cost.brief[1:])}")
    if not cost.fits:
        st.warning(plain(cost.warning), icon=":material/warning:")


def unread_line(project: GenerationProject, prompt: str) -> None:
    """Say it where a prompt is longer than what the text encoder reads."""
    prompts = project.audit.model.prompts
    unread = prompts.unread(prompt) if prompts is not None else 0
    if prompts is not None and unread:
        st.warning(
            f"The model reads {prompts.length} tokens of a prompt. The last {unread} of this one are cut off.",
            icon=":material/content_cut:",
        )


def filter_line(project: GenerationProject) -> None:
    """Say it where the pipeline would have looked over what it paints."""
    from forwardinf_core.audits.generation.checking import UNFILTERED

    if project.audit.model.has_filter:
        st.caption(f":material/visibility: {' '.join(UNFILTERED)}")


def class_names(project: GenerationProject) -> list[str]:
    """Return the classes that can be painted; an empty name where the model can paint without one."""
    model = project.audit.model
    return [*model.classes, *([NO_CLASS] if model.null_label is not None else [])]


def _narrow_cells() -> list[DeltaGenerator]:
    first = st.container()
    seed, steps = st.columns(2, gap="small")
    return [first, seed, steps, st.container(), st.container()]


def _digits(text: str, otherwise: int) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else otherwise


def _submitted(settings: Settings) -> None:
    said = st.session_state
    ask_for(
        prompt=str(said.get(settings.key(state.GEN_PROMPT)) or ""),
        seed=str(said[settings.key(state.GEN_SEED)]),
        steps=str(said[settings.key(state.GEN_STEPS)]),
        guidance=f"{said.get(settings.key(state.GEN_GUIDANCE), USUAL_GUIDANCE):g}",
    )


def upload(project: GenerationProject) -> None:
    """Draw the upload of a picture; what the service refuses is said calmly."""
    model = project.audit.model
    if model.condition == "class":
        st.selectbox(
            "Asked about as",
            class_names(project),
            format_func=lambda name: name or "No class",
            key=state.GEN_UPLOAD_AS,
            help="The model paints by class: which one should it have painted here?",
        )
    elif model.condition == "text":
        st.text_input("Prompt it was made for", key=state.GEN_UPLOAD_AS, max_chars=1_000)

    def received() -> None:
        st.session_state.pop(state.UPLOAD_FAULT, None)
        file = st.session_state.get(state.GEN_UPLOAD)
        if file is None:
            return
        try:
            query = project.audit.pictures.add(file.getvalue(), file.name)
            ask_for(picture=query, prompt=str(st.session_state.get(state.GEN_UPLOAD_AS) or ""))
        except AuditError as error:
            st.session_state[state.UPLOAD_FAULT] = error

    st.file_uploader(
        "A picture the model may have made",
        type=UPLOAD_TYPES,
        key=state.GEN_UPLOAD,
        max_upload_size=UPLOAD_LIMIT_MB,
        on_change=received,
        help="It is prepared exactly as the training images were, and stays on this machine.",
    )
    fault = st.session_state.get(state.UPLOAD_FAULT)
    if fault is not None:
        messages.show_error(fault)


def painted_before(project: GenerationProject) -> bool:
    """Draw what was painted before; return whether there is any."""
    from forwardinf_core.audits.generation.painting import wishes

    known = wishes(project.audit, PAINTED_SHOWN)
    if not known:
        return False
    st.subheader("Painted before", anchor=False)
    gallery(
        [
            Tile(
                id=urlencode({name: value for name, value in link_to(wish).items() if value}),
                src=thumbs.address(project.ref, thumbs.SHOWN, picture.query),
                title=wish.prompt or "no class",
                note=f"seed {wish.seed}",
                hint=f"{wish.prompt or 'No class'}: seed {wish.seed}, {wish.steps} steps, guidance {wish.guidance:g}",
            )
            for wish, picture in known
        ],
        key=state.GEN_PAINTED,
        label="Pictures painted before",
        tile_width=92,
        follow=False,
        on_select=lambda chosen: ask_for(**dict(parse_qsl(chosen))),
    )
    return True
