"""``fit``: train the built-in baseline for a project that has no model. One chunk an epoch; resumes bit-equal."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from forwardinf_core.audits.context import Context
from forwardinf_core.audits.text_fitting import fit_text
from forwardinf_core.audits.training_cost import BATCHES, tell_cost
from forwardinf_core.datasets.rows import DataRows, images_of
from forwardinf_core.errors import DataError, ProjectError
from forwardinf_core.jobs.context import JobContext
from forwardinf_core.jobs.registry import job
from forwardinf_core.models.baseline import Baseline, BaselineConfig
from forwardinf_core.models.baseline_folder import save_baseline, save_training
from forwardinf_core.models.preprocessing import PixelPreprocessing
from forwardinf_core.models.training import TrainingOptions, TrainingState, evaluate, suitable_options, train
from forwardinf_core.projects.load import Project, open_project
from forwardinf_core.store.arrays import ArrayWriter, Layout, open_tensor
from forwardinf_core.store.binding import Binding, Option
from forwardinf_core.store.files import write_folder

SAMPLE = 500  # rows that size, colour, mean and deviation are taken from
LARGEST_SIZE = 64  # pixels; larger images are reduced to it, the network was not made for more
SMALLEST_SIZE = 8
NARROW_BELOW = 16  # pixels; below, half the width is as accurate and takes a third of the time
BLOCK = 1000


@dataclass(frozen=True)
class FitOptions:
    """How to train; None takes what suits the rows. ``held_out`` with ``patience`` stops early."""

    seed: int = 0
    epochs: int | None = None
    size: int | None = None
    width: int | None = None
    held_out: float = 0.0
    patience: int = 0


def fingerprints_of(project: Path, _options: FitOptions) -> dict[str, str]:
    """Return what training reads."""
    opened = open_project(project)
    found = {"train": opened.train_rows(None).fingerprint}
    if opened.config.task == "text-classification":  # the longest text of either set decides how many tokens are read
        found["test"] = opened.test_rows(None).fingerprint
    return found


@job("fit", version=1, fingerprints=fingerprints_of)
def fit(context: JobContext, options: FitOptions) -> dict[str, Option]:
    """Train the baseline and write it to the folder that project.yaml names; returns accuracy and where it is."""
    project = open_project(context.project)
    if project.config.model.kind != "baseline":
        raise ProjectError(
            f"The model of this project is of kind {project.config.model.kind}, which fit does not train.",
            hint="fit trains the built-in network: set model: {kind: baseline, path: model/} in project.yaml.",
        )
    if project.config.task == "text-classification":
        return fit_text(context, project, options)
    if project.config.task == "diffusion":
        from forwardinf_core.audits.generation.fitting import fit_denoiser  # which imports this module

        return fit_denoiser(context, project, options)
    rows = project.train_rows(project.config.model.classes)
    preprocessing = suitable_preprocessing(rows, options)
    pixels = kept_pixels(context, project, rows, preprocessing)
    labels = torch.from_numpy(rows.labels.copy())
    training = training_options(rows, preprocessing, options)
    torch.manual_seed(options.seed)
    width = options.width or (16 if preprocessing.size < NARROW_BELOW else 32)
    module = Baseline(BaselineConfig(len(rows.classes), preprocessing.channels, preprocessing.size, width))

    def on_epoch(state: TrainingState) -> None:
        context.chunks.put(f"epoch-{state.epoch:05d}", state.tensors())
        record = state.history[-1]
        context.report(
            state.epoch, training.epochs, f"Training: loss {record.loss:.3f}, {100 * record.accuracy:.0f}% right"
        )

    context.report(0, training.epochs, "Training the baseline")
    resume = last_state(context)
    if resume is None:
        some = torch.nonzero(labels >= 0).flatten()[: BATCHES * training.batch_size]
        once = replace(training, epochs=1, held_out=0.0, patience=0)

        def train_some(trial: nn.Module) -> None:
            train(trial, pixels, labels, once, normalise=preprocessing.normalise, rows=some)

        tell_cost(context, module, training.epochs, len(some) / len(labels), train_some)
    train(module, pixels, labels, training, normalise=preprocessing.normalise, resume=resume, on_epoch=on_epoch)
    folder = project.root / project.config.model.path

    def write(draft: Path) -> None:
        save_baseline(draft, module, rows.classes, preprocessing)
        save_training(draft, training)

    write_folder(folder, write)
    return {
        "model": str(folder / "model.safetensors"),
        "test_accuracy": test_accuracy(project, module, rows.classes, preprocessing),
        "options": {**asdict(training), "width": width, "size": preprocessing.size, "channels": preprocessing.channels},
    }


def suitable_preprocessing(rows: DataRows, options: FitOptions) -> PixelPreprocessing:
    """Return size, channels, mean and deviation that suit the rows, from a seeded sample of them."""
    positions = np.random.default_rng(options.seed).permutation(len(rows))[:SAMPLE]
    images = [images_of(rows).image(int(position)) for position in np.sort(positions)]
    if not images:
        raise DataError("The training set is empty.", hint="Check train: in project.yaml.")
    size = options.size or int(np.clip(np.median([min(image.size) for image in images]), SMALLEST_SIZE, LARGEST_SIZE))
    channels = 1 if all(image.mode == "L" for image in images) else 3
    neutral = PixelPreprocessing(size, channels, (0.0,) * channels, (1.0,) * channels)
    values = neutral(images).transpose(0, 1).flatten(1)  # (channels, pixels)
    mean, std = values.mean(1).tolist(), values.std(1).clamp_min(1e-3).tolist()
    return replace(neutral, mean=tuple(round(m, 4) for m in mean), std=tuple(round(s, 4) for s in std))


def training_options(rows: DataRows, preprocessing: PixelPreprocessing, options: FitOptions) -> TrainingOptions:
    """Return how the network is trained on these rows."""
    suited = suitable_options(
        n_rows=len(rows), channels=preprocessing.channels, size=preprocessing.size, seed=options.seed
    )
    return replace(suited, epochs=options.epochs or suited.epochs, held_out=options.held_out, patience=options.patience)


def kept_pixels(context: Context, project: Project, rows: DataRows, preprocessing: PixelPreprocessing) -> Tensor:
    """Return all rows as bytes, memory-mapped, (n, channels, size, size); decoded once and kept."""
    bound = Binding(
        "pixels", {"train": rows.fingerprint}, {"size": preprocessing.size, "channels": preprocessing.channels}
    )
    folder = project.audit_dir / "caches" / f"pixels-{bound.key()[:16]}"
    shape = (len(rows), preprocessing.channels, preprocessing.size, preprocessing.size)
    with ArrayWriter(folder, Layout(shape, "uint8", BLOCK), bound) as writer:
        for start, stop in writer.missing():
            writer.write(
                start, preprocessing.pixels([images_of(rows).image(position) for position in range(start, stop)])
            )
            context.report(stop, len(rows), "Decoding the images")
    return open_tensor(folder, bound)


def last_state(context: JobContext) -> TrainingState | None:
    """Return the state after the last finished epoch of an interrupted training."""
    for key in reversed(context.chunks.keys()):
        kept = context.chunks.get(key)
        if kept is not None:
            return TrainingState.from_tensors(kept)
    return None


def test_accuracy(
    project: Project, module: Baseline, classes: tuple[str, ...], preprocessing: PixelPreprocessing
) -> float:
    """Return the share of labelled test rows the trained network gets right; NaN where none has a label."""
    rows = project.test_rows(classes)
    pixels = preprocessing.pixels([images_of(rows).image(position) for position in range(len(rows))])
    return evaluate(module, pixels, torch.from_numpy(rows.labels.copy()), normalise=preprocessing.normalise)[1]
