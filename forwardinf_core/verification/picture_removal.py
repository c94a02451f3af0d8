"""Does it hold? A picture's answer checked by training the diffusion model anew without the images that helped most.

Beside the k most helpful images, as many are left out at random, and at random among those of the same classes. Every
seed trains once on all images and once without each kind, so changes are differences within a seed; intervals are
Student's t over the seeds. Judged are the picture's loss, over draws that the scores were not made with, and, where
the picture was painted here, what the same seed paints now.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image

from forwardinf_core.audits.context import Context
from forwardinf_core.audits.generation.methods import Method
from forwardinf_core.audits.generation.records import Picture
from forwardinf_core.audits.generation.tracing import GenerationAudit, fingerprints_of, load_generation_audit
from forwardinf_core.errors import DataError, ModelError
from forwardinf_core.jobs import run as jobs
from forwardinf_core.jobs.context import JobContext
from forwardinf_core.jobs.execution import available_threads
from forwardinf_core.jobs.registry import job
from forwardinf_core.store.binding import Binding, Option
from forwardinf_core.store.chunks import ChunkStore
from forwardinf_core.store.files import sha256
from forwardinf_core.store.runs import RunRecord, find_run, save_run
from forwardinf_core.verification.checks import Verdict
from forwardinf_core.verification.denoiser_recipe import denoiser_recipe, epochs_of, loss_of, painting_of
from forwardinf_core.verification.removal_ladder import WORDS, Chosen, Interval, choose
from forwardinf_core.verification.retraining import Examples, Outcome, Retraining, Task, failures

KIND = "picture-removal"
VERSION = 1
SEEDS, MOST_SEEDS = 3, 100
SHARE = 0.05  # of the images that are left out
Report = Callable[[float, str], None]
Way = Literal["all", "top", "random", "alike"]
WAYS: tuple[Way, ...] = ("all", "top", "random", "alike")


@dataclass(frozen=True)
class PictureRemovalOptions:
    """The question: which picture and class, whose ranking, how many images, how often."""

    query: str
    label: int | str | None
    method: Method
    k: int
    seeds: int


@dataclass(frozen=True, eq=False)
class PictureRemoval:
    """A finished check. ``losses`` and ``apart`` are by way, an entry a seed that succeeded.

    ``losses`` are the picture's; ``apart`` is the mean squared difference, of pixels from 0 to 1, between the picture
    and what its seed paints now (NaN where it was not painted here). ``rise`` is how far the loss rises without the
    helpful images; ``more`` and ``alike`` by how much more than without random ones, and random ones of the same
    classes. ``paintings`` are names of pictures by way, of the first seed.
    """

    run_id: str
    options: PictureRemovalOptions
    failed: tuple[str, ...]
    losses: dict[Way, NDArray[np.float64]]
    apart: dict[Way, NDArray[np.float64]]
    rise: Interval
    more: Interval
    alike: Interval
    paintings: dict[Way, str]
    top: NDArray[np.int64]  # positions of the images left out, most helpful first

    @property
    def verdict(self) -> Verdict:
        """Green, amber or red, by the rule of ``removal_ladder``."""
        if not (self.more.mean > 0 and self.rise.mean > 0):
            return "red"
        return "green" if self.more.low > 0 else "amber"


def options_of(
    audit: GenerationAudit, picture: Picture, method: Method, *, k: int | None = None, seeds: int | None = None
) -> PictureRemovalOptions:
    """Return the whole question. Raises ModelError where the model cannot be retrained, DataError for few seeds."""
    epochs_of(audit)
    count = SEEDS if seeds is None else seeds
    if not 2 <= count <= MOST_SEEDS:
        raise DataError(f"{count} seeds give no interval.", hint=f"Ask for 2 to {MOST_SEEDS}.")
    usual = max(1, round(SHARE * len(audit.train)))
    return PictureRemovalOptions(picture.query, picture.label, method, usual if k is None else k, count)


def trainings_of(options: PictureRemovalOptions) -> int:
    """Return how many trainings a check takes, of which some may be there."""
    return options.seeds * len(WAYS)


def stored(audit: GenerationAudit, options: PictureRemovalOptions) -> PictureRemoval | None:
    """Return the check where it has been made."""
    record = find_run(audit.project, KIND, _binding(audit, options).key())
    return None if record is None else _opened(record, options)


def checked(audit: GenerationAudit, options: PictureRemovalOptions, report: Report) -> PictureRemoval:
    """Return the check, read back or made here as the job it also is in the app."""
    if stored(audit, options) is None:

        def on_report(done: float, total: float, note: str) -> None:
            report(done / total if total else 0.0, note)

        jobs.run_here(KIND, audit.folder, options, on_report)
    found = stored(audit, options)
    assert found is not None
    return found


def start(audit: GenerationAudit, options: PictureRemovalOptions) -> int:
    """Queue the check and return the job's id."""
    return jobs.submit(KIND, audit.folder, options)


def _prints(project: Path, _options: PictureRemovalOptions) -> Mapping[str, str]:
    return fingerprints_of(project, None)


@job(KIND, version=VERSION, fingerprints=_prints)
def check(context: JobContext, options: PictureRemovalOptions) -> dict[str, Option]:
    """Make the check. Cancelled and retried, it goes on after the last finished training.

    Returns the ids of its run and of the answer that it checks.
    """
    audit = load_generation_audit(context.project)
    picture = Picture(options.query, options.label, audit.pictures.made(options.query))
    answer = audit.answer(picture, options.method, context)
    known = find_run(audit.project, KIND, _binding(audit, options).key())
    return {"run": (known or _made(audit, picture, answer, options, context)).id, "answer": answer.id}


def _made(
    audit: GenerationAudit, picture: Picture, answer: RunRecord, options: PictureRemovalOptions, context: Context
) -> RunRecord:
    frame = answer.frame("scores")
    scores = frame["score_full" if "score_full" in frame else "score"].to_numpy(np.float32)
    chosen = choose(np.nan_to_num(scores), audit.train.labels, options.k, options.seeds)
    tasks = {(way, seed): _task(len(scores), chosen, way, seed) for way in WAYS for seed in range(options.seeds)}
    outcomes = dict(zip(tasks, _retrained(audit, picture, list(tasks.values()), context), strict=True))
    seeds = [seed for seed in range(options.seeds) if not any(outcomes[way, seed].failed for way in WAYS)]
    if len(seeds) < 2:
        raise ModelError(
            f"Only {len(seeds)} of {options.seeds} seeds could be retrained without a failure.",
            hint="An interval needs two.",
        )
    image = audit.pictures.image(picture.query)
    seen = (audit.model.codec.encode([image])[0].double().numpy() + 1) / 2
    rows, kept = [], {}
    for way in WAYS:
        for seed in seeds:
            now = painting_of(outcomes[way, seed], audit.model.codec.shape)
            apart = float(np.mean((now - seen) ** 2)) if now is not None else float("nan")
            rows.append({"way": way, "seed": seed, "loss": loss_of(outcomes[way, seed]), "apart": apart})
            if now is not None and seed == seeds[0]:
                kept[way] = audit.pictures.keep(_as_image(now), {})
    order = np.argsort(-np.nan_to_num(scores), kind="stable")[: options.k]
    return save_run(
        audit.project,
        KIND,
        _binding(audit, options).key(),
        options=cast("dict[str, Option]", asdict(options)),
        summary={
            "failed": list(failures(list(tasks.values()), list(outcomes.values()))),
            "paintings": cast("dict[str, Option]", kept),
        },
        frames={"outcomes": pd.DataFrame(rows)},
        tensors={"rows": {"top": torch.from_numpy(order.astype(np.int64))}},
    )


def _task(n_rows: int, chosen: Chosen, way: Way, seed: int) -> Task:
    if way == "all":
        return Task.without(n_rows, [], seed, name="on all rows")
    return Task.without(n_rows, chosen.of(way, seed), seed, name=WORDS[way])


def _retrained(audit: GenerationAudit, picture: Picture, tasks: list[Task], context: Context) -> list[Outcome]:
    """Return what each retrained model says of the picture."""
    recipe = denoiser_recipe(audit, picture.made, context)
    sample = audit.model.codec.encode([audit.pictures.image(picture.query)])
    watched = Examples(sample, torch.tensor([picture.label if isinstance(picture.label, int) else -1]))
    binding = recipe.binding("picture-retraining", watched=watched)
    folder = audit.project.audit_dir / "retrained" / binding.key()[:16]

    def report(fraction: float, note: str) -> None:
        context.report(fraction * len(tasks), len(tasks), note)

    retraining = Retraining(recipe, watched, ChunkStore(folder, binding))
    return retraining.outcomes(tasks, workers=available_threads(), report=report)


def _opened(record: RunRecord, options: PictureRemovalOptions) -> PictureRemoval:
    frame = record.frame("outcomes")
    by_way = {way: frame[frame["way"] == way].sort_values("seed") for way in WAYS}
    losses = {way: part["loss"].to_numpy(np.float64) for way, part in by_way.items()}
    rises = {way: losses[way] - losses["all"] for way in WAYS}
    return PictureRemoval(
        run_id=record.id,
        options=options,
        failed=tuple(str(name) for name in cast("list[Option]", record.summary["failed"])),
        losses=losses,
        apart={way: part["apart"].to_numpy(np.float64) for way, part in by_way.items()},
        rise=Interval.of(rises["top"]),
        more=Interval.of(rises["top"] - rises["random"]),
        alike=Interval.of(rises["top"] - rises["alike"]),
        paintings={
            cast("Way", way): str(name) for way, name in cast("dict[str, Option]", record.summary["paintings"]).items()
        },
        top=record.tensors("rows")["top"].numpy(),
    )


def _as_image(pixels: NDArray[np.float64]) -> Image.Image:
    values = np.rint(255 * pixels).astype(np.uint8)
    return Image.fromarray(values[0] if len(values) == 1 else values.transpose(1, 2, 0))


def _binding(audit: GenerationAudit, options: PictureRemovalOptions) -> Binding:
    image = audit.pictures.image(options.query)
    prints = {
        **fingerprints_of(audit.folder, None),
        "picture": sha256(f"{image.mode}{image.size}".encode() + image.tobytes()),
    }
    return Binding(KIND, prints, cast("dict[str, Option]", asdict(options)), VERSION)
