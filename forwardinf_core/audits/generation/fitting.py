"""``fit`` for diffusion projects: train the built-in UNet on the images. One chunk an epoch; resumes bit-equal."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, replace

import numpy as np
import torch
from torch import nn

from forwardinf_core.audits.fitting import FitOptions, suitable_preprocessing
from forwardinf_core.audits.training_cost import BATCHES, tell_cost
from forwardinf_core.datasets.rows import images_of
from forwardinf_core.errors import DataError
from forwardinf_core.jobs.context import JobContext
from forwardinf_core.models.baseline_folder import save_training
from forwardinf_core.models.denoiser import PixelCodec, objective_of
from forwardinf_core.models.denoiser_baseline import SCHEDULE, make_denoiser, save_denoiser, suitable_config
from forwardinf_core.models.denoiser_training import DenoiserState, DenoiserTraining, train_denoiser
from forwardinf_core.projects.load import Project
from forwardinf_core.store.binding import Option
from forwardinf_core.store.files import TEMPORARY_PREFIX, disk_errors, make_folder

LARGEST_SIZE = 32  # pixels; larger images are reduced to it, the network was not made for more
READ_AT_ONCE = 500
VISITS = 80_000  # of rows in all, at most 60 epochs: minutes on two cores for small images


def fit_denoiser(context: JobContext, project: Project, options: FitOptions) -> dict[str, Option]:
    """Train the built-in UNet, by class where the rows have classes, and write it to the folder project.yaml names."""
    rows = images_of(project.train_rows(project.config.model.classes))
    seen = suitable_preprocessing(rows, options)
    size = options.size or min(LARGEST_SIZE, seen.size - seen.size % 4 or seen.size)
    codec = PixelCodec(seen.channels, size)
    parts = []
    for start in range(0, len(rows), READ_AT_ONCE):
        stop = min(start + READ_AT_ONCE, len(rows))
        parts.append(codec.encode([rows.image(position) for position in range(start, stop)]))
        context.report(stop, len(rows), "Reading the images")
    labels = torch.from_numpy(rows.labels.copy()) if len(rows.classes) > 1 else None
    if labels is not None and (labels < 0).any():
        unlabelled = int(np.sum(rows.labels < 0))
        raise DataError(
            f"{unlabelled} of {len(rows)} rows have no class, and the others do.",
            hint="Give them a class, or leave the label column out for an unconditional model.",
        )
    epochs = options.epochs or max(1, min(60, VISITS // len(rows)))
    training = replace(DenoiserTraining(seed=options.seed), epochs=epochs)
    config = suitable_config(0 if labels is None else len(rows.classes), codec.channels, size, options.width)
    torch.manual_seed(options.seed)
    module = make_denoiser(config)

    def on_epoch(state: DenoiserState) -> None:
        context.chunks.put(f"epoch-{state.epoch:05d}", state.tensors())
        context.report(state.epoch, epochs, f"Training: loss {state.losses[-1]:.4f}")

    samples, objective = torch.cat(parts), objective_of(SCHEDULE, "the built-in model")
    null_label, resume = config.n_classes or None, _last_state(context)
    if resume is None:
        some = torch.arange(min(BATCHES * training.batch_size, len(samples)))
        once = replace(training, epochs=1)

        def train_some(trial: nn.Module) -> None:
            train_denoiser(trial, samples, labels, objective, once, null_label=null_label, rows=some)

        tell_cost(context, module, epochs, len(some) / len(samples), train_some)
    losses = train_denoiser(
        module, samples, labels, objective, training, null_label=null_label, resume=resume, on_epoch=on_epoch
    )
    folder = project.root / project.config.model.path
    make_folder(folder)
    draft = folder / f"{TEMPORARY_PREFIX}model"
    shutil.rmtree(draft, ignore_errors=True)
    make_folder(draft)
    with disk_errors(folder):
        save_denoiser(draft, module, config, rows.classes if labels is not None else ())
        save_training(draft, training)
        for file in sorted(draft.iterdir(), key=lambda path: path.suffix == ".safetensors"):
            os.replace(file, folder / file.name)
        draft.rmdir()
    return {
        "model": str(folder / "model.safetensors"),
        "loss": losses[-1],
        "options": {**asdict(training), **asdict(config)},
    }


def _last_state(context: JobContext) -> DenoiserState | None:
    for key in reversed(context.chunks.keys()):
        kept = context.chunks.get(key) if key.startswith("epoch-") else None
        if kept is not None:
            return DenoiserState.from_tensors(kept)
    return None
