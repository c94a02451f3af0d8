"""Pictures of a set's base model, and what networks trained without some rows say of them.

A retrained network is asked about every picture: its loss on fixed draws, which are not those that scores are made
with, and what it paints from the noise that the picture was painted from. All answers go through one store, so a set of
rows is trained without once, whichever method or part asks for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from forwardinf_core.benchmarks.generation_figures import Floats
from forwardinf_core.benchmarks.generation_scores import Query, Report, Scene
from forwardinf_core.benchmarks.generation_sets import PaintRecipe, PictureSet
from forwardinf_core.influence.diffusion import DrawRows, Draws
from forwardinf_core.influence.network import slices
from forwardinf_core.models.denoiser import GENERATION_STEPS, DiffusionModel
from forwardinf_core.store.binding import Binding
from forwardinf_core.store.chunks import ChunkStore
from forwardinf_core.verification.retraining import Examples, Outcome, Retraining, Task

PICTURES = 40  # of a set: the first half to report on, the second to choose options on
JUDGED = Draws(50, seed=77)  # a method sees other ones
BATCH = 100


@dataclass(frozen=True)
class PaintedRecipe:
    """Trains a set's recipe on some rows and looks at the pictures, which are the watched rows.

    An output is a row of numbers: the picture's loss at each draw of ``JUDGED``, then the pixels, from 0 to 1, of what
    is painted from the noise of the picture's number.
    """

    recipe: PaintRecipe
    rows: Examples  # samples (n, c, h, w) float32 and their labels

    @property
    def n_classes(self) -> int:
        """Return how many numbers an output has."""
        return JUDGED.count + self.rows.inputs[0].numel()

    def outputs(self, task: Task, watched: Examples) -> Tensor:
        """Return losses and pixels (n_watched, draws + pixels) of the network trained for a task."""
        module = self.recipe.trained(self.rows.inputs, self.rows.labels, task.seed, torch.as_tensor(task.subset))
        model = self.recipe.model(module, ())
        pixels = painted(model, watched.labels, range(len(watched)))
        return torch.cat([judged(model, watched), (pixels.flatten(1).clamp(-1, 1) + 1) / 2], 1)

    def binding(self, kind: str, **more: Examples) -> Binding:
        """Return what outputs depend on, with further pictures by name."""
        prints = {"rows": self.rows.fingerprint()} | {name: one.fingerprint() for name, one in more.items()}
        found = self.recipe.binding(kind, **prints)
        judging = {"draws": JUDGED.count, "seed": JUDGED.seed, "steps": GENERATION_STEPS}
        return Binding(found.kind, found.fingerprints, {**found.options, **judging})


@torch.inference_mode()
def painted(model: DiffusionModel, labels: Tensor, seeds: Sequence[int]) -> Tensor:
    """Return what the model paints, (n, c, h, w), a class and a seed each: ``generate`` for several classes at once."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler.from_config(model.schedule, clip_sample=True)
    scheduler.set_timesteps(GENERATION_STEPS)
    noise = [torch.randn(model.codec.shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    sample = torch.stack(noise)
    for timestep in scheduler.timesteps:
        output = model.module(sample, timestep.expand(len(sample)), class_labels=labels).sample
        sample = scheduler.step(output, timestep, sample).prev_sample
    found: Tensor = sample
    return found


@torch.inference_mode()
def judged(model: DiffusionModel, pictures: Examples) -> Tensor:
    """Return the loss of every picture at every draw of ``JUDGED``, (n, draws)."""
    names = [f"judged {number}" for number in range(len(pictures))]
    rows = DrawRows(names, pictures.inputs, {"label": pictures.labels}, JUDGED, model.n_timesteps)
    batches = [rows.batch(start, stop) for start, stop in slices(len(rows), BATCH)]
    losses = [model.objective.losses(model.objective.outputs(model.module, batch), batch) for batch in batches]
    return torch.cat(losses).reshape(len(pictures), JUDGED.count)


@dataclass(frozen=True)
class Pictures:
    """The pictures that a set's base model paints, classes in turn, and the retraining that judges removals by them."""

    chosen: PictureSet

    @cached_property
    def watched(self) -> Examples:
        """Return the pictures as the app keeps them, in whole grey levels, and their classes."""
        model = self.chosen.base
        labels = torch.arange(PICTURES) % len(self.chosen.classes)
        return Examples(model.codec.encode(model.codec.decode(painted(model, labels, range(PICTURES)))), labels)

    @cached_property
    def scene(self) -> Scene:
        """Return the base model and its rows."""
        return Scene(self.chosen.base, self.chosen.rows, self.chosen.folder)

    @cached_property
    def retraining(self) -> Retraining:
        """Return what retrains the set without some rows."""
        recipe = PaintedRecipe(self.chosen.recipe, Examples(self.chosen.samples, self.chosen.labels))
        store = ChunkStore(self.chosen.folder / "retrained", recipe.binding("retrained", pictures=self.watched))
        return Retraining(recipe, self.watched, store)

    def half(self, name: str, count: int) -> list[int]:
        """Return numbers of pictures of a half: to report on, or to choose options on."""
        first = 0 if name == "report" else PICTURES // 2
        return list(range(first, first + min(count, PICTURES // 2)))

    def query(self, number: int) -> Query:
        """Return a picture as a query."""
        return Query(self.watched.inputs[number : number + 1].clone(), int(self.watched.labels[number]))

    def retrained(self, tasks: Sequence[Task], workers: int, report: Report) -> list[Judgement]:
        """Return what every task's network says of the pictures."""
        size = self.watched.inputs.shape[2:]
        outcomes = self.retraining.outcomes(tasks, workers=workers, report=report)
        return [Judgement.of(outcome, (int(size[0]), int(size[1]))) for outcome in outcomes]


@dataclass(frozen=True)
class Judgement:
    """What one network says: mean loss of every picture (n,), and what it paints from their noise, (n, h, w)."""

    losses: Floats
    paintings: Floats

    @staticmethod
    def of(outcome: Outcome, size: tuple[int, int]) -> Judgement:
        """Return the judgement that an outcome holds; NaN where the training failed."""
        found = outcome.outputs.double().numpy()
        return Judgement(
            found[:, : JUDGED.count].mean(1), np.asarray(found[:, JUDGED.count :]).reshape(len(found), *size)
        )
