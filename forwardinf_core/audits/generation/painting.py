"""Painting as a job: a picture that the project's model generates, kept as a run, so that a link finds it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from forwardinf_core.audits.generation.records import Picture
from forwardinf_core.audits.generation.tracing import GenerationAudit, fingerprints_of, load_generation_audit
from forwardinf_core.errors import DataError
from forwardinf_core.jobs.context import JobContext
from forwardinf_core.jobs.registry import job
from forwardinf_core.store.binding import Binding, Option
from forwardinf_core.store.runs import RunRecord, find_run, list_runs, save_run

KIND = "generate"
VERSION = 1
LARGEST_SEED = 2**32 - 1  # what people can read and type
LARGEST_GUIDANCE = 20.0  # far above what pictures survive


@dataclass(frozen=True)
class Wish:
    """What to paint: a class or prompt (None where the model takes none), and how. Same wish, same picture."""

    prompt: str | None
    seed: int
    steps: int
    guidance: float


def check(audit: GenerationAudit, wish: Wish) -> None:
    """Raise DataError, in a sentence, for a wish this model cannot fulfil."""
    audit.model.label_of(wish.prompt)
    if not 0 <= wish.seed <= LARGEST_SEED:
        raise DataError(f"{wish.seed} is no seed.", hint=f"Seeds are whole numbers from 0 to {LARGEST_SEED}.")
    if not 1 <= wish.steps <= audit.model.n_timesteps:
        raise DataError(f"{wish.steps} steps are not possible.", hint=f"Choose 1 to {audit.model.n_timesteps}.")
    if not 0 <= wish.guidance <= LARGEST_GUIDANCE:
        raise DataError(f"A guidance of {wish.guidance} is not possible.", hint=f"Choose 0 to {LARGEST_GUIDANCE:g}.")
    if wish.guidance != 1.0 and audit.model.null_label is None:
        raise DataError("This model was not trained for guidance.", hint="Set guidance to 1.")


def painted(audit: GenerationAudit, wish: Wish) -> Picture | None:
    """Return the picture where it was painted before and is still here."""
    record = find_run(audit.project, KIND, _binding(audit, wish).key())
    return None if record is None else _picture(audit, record)


def paint(audit: GenerationAudit, wish: Wish) -> Picture:
    """Return the picture, painted here and now where it is not there. Raises DataError for a wish that cannot be."""
    check(audit, wish)
    known = painted(audit, wish)
    if known is not None:
        return known
    picture = audit.generate(wish.prompt, seed=wish.seed, steps=wish.steps, guidance=wish.guidance)
    save_run(audit.project, KIND, _binding(audit, wish).key(), options=asdict(wish), summary={"picture": picture.query})
    return picture


def wishes(audit: GenerationAudit, limit: int) -> list[tuple[Wish, Picture]]:
    """Return what this model painted before and is still here, newest first."""
    found = []
    for record in list_runs(audit.project, KIND):
        wish = _wish(record)
        if record.key != _binding(audit, wish).key():  # painted by another state of the model
            continue
        picture = _picture(audit, record)
        if picture is not None:
            found.append((wish, picture))
        if len(found) == limit:
            break
    return found


def _wish(record: RunRecord) -> Wish:
    options = record.options
    prompt, seed, steps, guidance = (options.get(name) for name in ("prompt", "seed", "steps", "guidance"))
    assert isinstance(seed, int), seed
    assert isinstance(steps, int), steps
    assert isinstance(guidance, int | float), guidance
    return Wish(None if prompt is None else str(prompt), seed, steps, float(guidance))


def _picture(audit: GenerationAudit, record: RunRecord) -> Picture | None:
    query, wish = str(record.summary.get("picture")), _wish(record)
    try:
        made = audit.pictures.made(query)
    except DataError:  # its file was deleted: it is painted again
        return None
    return Picture(query, audit.model.label_of(wish.prompt), made)


def _binding(audit: GenerationAudit, wish: Wish) -> Binding:
    return Binding(KIND, {"model": audit.model.fingerprint}, asdict(wish), VERSION)


def _fingerprints(project: Path, options: Wish) -> Mapping[str, str]:
    return fingerprints_of(project, options)


@job(KIND, version=VERSION, fingerprints=_fingerprints)
def paint_picture(context: JobContext, options: Wish) -> dict[str, Option]:
    """Paint a picture in the worker. Returns its name."""
    audit = load_generation_audit(context.project)
    context.report(0, 1, "Painting")
    picture = paint(audit, options)
    context.report(1, 1, "Painted")
    return {"picture": picture.query}
