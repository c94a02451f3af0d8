"""The built-in network trained anew, on request: without each row in turn (folds), or several times on all of them.

Minutes a network. Each finished network is a chunk, and so is each finished epoch of the one at work.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from forwardinf_core.audits.fitting import FitOptions, training_options
from forwardinf_core.audits.mislabels import heads
from forwardinf_core.audits.mislabels.evidence import Evidence, Tensors
from forwardinf_core.audits.mislabels.opinions import Opinion
from forwardinf_core.errors import ModelError
from forwardinf_core.influence.network import slices
from forwardinf_core.models.baseline import Baseline
from forwardinf_core.models.preprocessing import PixelPreprocessing
from forwardinf_core.models.training import EVALUATION_BATCH, TrainingState, train
from forwardinf_core.verification.recipes import as_bytes


def left_out(evidence: Evidence, folds: int) -> Opinion:
    """Return what networks say of rows they were not trained on, mirrored images averaged in for colour."""
    fold_of = torch.from_numpy(heads.folds_of(evidence.labels.numpy(), folds, evidence.seed))
    parts, order = [], []
    for fold in range(folds):
        rows = torch.nonzero(fold_of != fold).flatten()
        out = torch.nonzero(fold_of == fold).flatten()
        found = _outputs(evidence, f"fold-{folds}-{fold}", rows, out, (fold, folds))
        parts.append(Opinion.of(found, evidence.labels[out]))
        order.append(out)
    return Opinion.joined(parts).at(torch.cat(order).argsort())


def averaged(evidence: Evidence, count: int) -> Opinion:
    """Return the opinion of the mean probability of several networks, each trained on all rows with another seed."""
    rows = torch.arange(len(evidence.labels))
    found = [_outputs(evidence, f"network-{number}", rows, rows, (number, count)) for number in range(count)]
    return heads.mean_opinion(found, evidence.labels)


def _outputs(evidence: Evidence, name: str, rows: Tensor, watched: Tensor, place: tuple[int, int]) -> Tensor:
    """Return log-probabilities (n_watched, c) of a network trained on ``rows``; kept as a chunk."""

    def compute() -> Tensors:
        return {"values": _trained_outputs(evidence, name, rows, watched, place)}

    return evidence.part(name, compute)["values"]


def _trained_outputs(evidence: Evidence, name: str, rows: Tensor, watched: Tensor, place: tuple[int, int]) -> Tensor:
    audit, context = evidence.audit, evidence.context
    module, preprocessing = audit.model.module, audit.model.preprocessing
    if not (isinstance(module, Baseline) and isinstance(preprocessing, PixelPreprocessing)):
        raise ModelError(
            f"A model of kind {audit.model.kind} cannot be retrained here: how it was trained is not known.",
            hint="Search without networks: heads on its features leave rows out in seconds.",
        )
    number, count = place
    options = replace(
        training_options(audit.train, preprocessing, FitOptions(seed=evidence.seed + number)),
        seed=evidence.seed + number,
    )
    pixels = as_bytes(audit, audit.train).inputs
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        fresh = Baseline(module.config)

    def on_epoch(state: TrainingState) -> None:
        context.chunks.put(f"{name}-epoch", state.tensors() | {"epoch": torch.tensor(state.epoch)})
        context.report(number + state.epoch / options.epochs, count, f"Training network {number + 1} of {count}")

    kept = context.chunks.get(f"{name}-epoch")
    resume = None if kept is None else TrainingState.from_tensors(kept)
    train(
        fresh,
        pixels,
        evidence.labels,
        options,
        normalise=preprocessing.normalise,
        rows=rows,
        resume=resume,
        on_epoch=on_epoch,
    )
    return _log_probabilities(fresh, pixels, watched, preprocessing)


@torch.inference_mode()
def _log_probabilities(module: Baseline, pixels: Tensor, rows: Tensor, preprocessing: PixelPreprocessing) -> Tensor:
    found = []
    for start, stop in slices(len(rows), EVALUATION_BATCH):
        images = preprocessing.normalise(pixels[rows[start:stop]]).contiguous(memory_format=torch.channels_last)
        seen = [images, images.flip(3)] if preprocessing.channels == 3 else [images]
        found.append(torch.logsumexp(torch.stack([module(x).log_softmax(1) for x in seen]), 0) - math.log(len(seen)))
    return torch.cat(found)
