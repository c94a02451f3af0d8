"""Retrains the built-in denoiser on some of its rows and asks it about a picture: its loss, and what it paints now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from forwardinf_core.audits.context import Context
from forwardinf_core.audits.generation.tracing import GenerationAudit
from forwardinf_core.errors import ModelError
from forwardinf_core.influence.diffusion import DrawRows, Draws
from forwardinf_core.influence.network import slices
from forwardinf_core.models.baseline_folder import load_training
from forwardinf_core.models.denoiser import DiffusionModel, PixelCodec
from forwardinf_core.models.denoiser_baseline import DenoiserConfig, as_model, config_of, make_denoiser
from forwardinf_core.models.denoiser_training import DenoiserTraining, train_denoiser
from forwardinf_core.store.binding import Binding, Option
from forwardinf_core.verification.retraining import Examples, Outcome, Task

JUDGED = Draws(50, seed=77)  # scores are made with others
BATCH = 100


@dataclass(frozen=True)
class DenoiserRecipe:
    """How a project's denoiser was trained. Watched rows are samples (n, c, h, w) with their classes.

    An output is a row of numbers: the picture's loss at each draw of ``JUDGED`` and, where ``made`` says how the
    picture was painted (seed, steps, guidance), the pixels from 0 to 1 of what the same seed paints now.
    """

    config: DenoiserConfig
    training: DenoiserTraining  # its seed is replaced by that of each task
    schedule: dict[str, object]
    rows: Examples
    made: dict[str, float]

    @property
    def n_classes(self) -> int:
        """How many numbers an output has."""
        return JUDGED.count + (self.rows.inputs[0].numel() if self.made else 0)

    def network(self, task: Task) -> DiffusionModel:
        """Return the denoiser trained for a task; its seed decides first weights, order and noise."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(task.seed)
            module = make_denoiser(self.config)
        model = as_model(module, self.config, (), self.schedule, "the retrained model")
        module.train().requires_grad_(True)
        train_denoiser(
            module,
            self.rows.inputs,
            task.labelled(self.rows.labels) if self.config.n_classes else None,
            model.objective,
            replace(self.training, seed=task.seed),
            null_label=self.config.n_classes or None,
            rows=torch.as_tensor(task.subset),
        )
        module.requires_grad_(False)
        return model

    def outputs(self, task: Task, watched: Examples) -> Tensor:
        """Return losses and pixels (n_watched, n_classes) of the network trained for a task."""
        model = self.network(task)
        parts = [judged(model, watched)]
        if self.made:
            codec = PixelCodec(self.config.channels, self.config.size)
            painted = [_painted(model, label, self.made) for label in watched.labels.tolist()]
            parts.append((codec.encode(painted).flatten(1) + 1) / 2)
        return torch.cat(parts, 1)

    def binding(self, kind: str, **more: Examples) -> Binding:
        """Return what outputs depend on, with further pictures by name."""
        prints = {"rows": self.rows.fingerprint()} | {name: one.fingerprint() for name, one in more.items()}
        training = asdict(self.training)
        del training["seed"]
        judging: dict[str, Option] = {"draws": JUDGED.count, "draws_seed": JUDGED.seed, "made": dict(self.made)}
        model = {**asdict(self.config), "prediction": str(self.schedule.get("prediction_type"))}
        return Binding(kind, prints, {"model": model, "training": training, "judging": judging})


@torch.inference_mode()
def judged(model: DiffusionModel, pictures: Examples) -> Tensor:
    """Return the loss of every picture at every draw of ``JUDGED``, (n, draws)."""
    names = [f"judged {number}" for number in range(len(pictures))]
    conditions = {"label": pictures.labels} if model.condition == "class" else {}
    rows = DrawRows(names, pictures.inputs, conditions, JUDGED, model.n_timesteps)
    batches = [rows.batch(start, stop) for start, stop in slices(len(rows), BATCH)]
    losses = [model.objective.losses(model.objective.outputs(model.module, batch), batch) for batch in batches]
    return torch.cat(losses).reshape(len(pictures), JUDGED.count)


def _painted(model: DiffusionModel, label: int, made: Mapping[str, float]) -> Image.Image:
    asked = label if model.condition == "class" else None
    seed, steps = int(made["seed"]), int(made["steps"])
    return model.generate(asked, count=1, seed=seed, steps=steps, guidance=made["guidance"])[0]


def loss_of(outcome: Outcome) -> float:
    """Return the mean loss that a network gives the one picture watched."""
    return float(outcome.outputs[0, : JUDGED.count].mean())


def painting_of(outcome: Outcome, shape: tuple[int, int, int]) -> NDArray[np.float64] | None:
    """Return what a network paints, (c, h, w) from 0 to 1, None where the picture was not painted here."""
    pixels = outcome.outputs[0, JUDGED.count :]
    return pixels.double().reshape(shape).numpy() if len(pixels) else None


def epochs_of(audit: GenerationAudit) -> int:
    """Return over how many rounds the model is trained anew. Raises ModelError as ``denoiser_recipe``."""
    training = _training(audit)
    return training.epochs * training.repeats


def denoiser_recipe(audit: GenerationAudit, made: Mapping[str, float], context: Context) -> DenoiserRecipe:
    """Return how a project's model is trained. Raises ModelError where ``fit`` did not train it."""
    training, place = _training(audit), audit.place(context)
    labels = place.conditions.get("label")
    labels = labels if isinstance(labels, Tensor) else torch.full((len(audit.train),), -1)
    config = config_of(audit.project.root / audit.project.config.model.path, audit.project.config.model.path)
    return DenoiserRecipe(
        config, training, dict(audit.model.schedule), Examples(place.samples.clone(), labels), dict(made)
    )


def _training(audit: GenerationAudit) -> DenoiserTraining:
    found = None
    if audit.model.kind == "baseline":
        found = load_training(audit.project.root / audit.project.config.model.path, DenoiserTraining)
    if found is None:
        raise ModelError(
            "This diffusion model cannot be retrained here: how it was trained is not known.",
            hint="Only models that the command fit trained can be; the scores stand as estimates.",
        )
    return found
