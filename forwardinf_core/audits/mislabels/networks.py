"""The built-in network trained anew, on request: without each row in turn (folds), or without the rows that look wrong.

Minutes a network, so what a network says is kept with the project, whoever asks: a second search with more networks,
other trusted rows or another seed trains only what is new. So is the last epoch of one at work.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from forwardinf_core.audits.fitting import FitOptions, training_options
from forwardinf_core.audits.mislabels import heads
from forwardinf_core.audits.mislabels.evidence import Evidence
from forwardinf_core.audits.mislabels.opinions import Opinion
from forwardinf_core.influence.network import slices
from forwardinf_core.models.baseline import Baseline
from forwardinf_core.models.preprocessing import PixelPreprocessing
from forwardinf_core.models.training import EVALUATION_BATCH, TrainingState, train
from forwardinf_core.store.binding import Binding, Option
from forwardinf_core.store.chunks import ChunkStore
from forwardinf_core.store.files import sha256
from forwardinf_core.verification.recipes import as_bytes, recipe_of
from forwardinf_core.verification.retraining import Task


def left_out(evidence: Evidence, folds: int) -> Opinion:
    """Return what networks say of rows they were not trained on, mirrored images averaged in for colour."""
    fold_of = torch.from_numpy(heads.folds_of(evidence.labels.numpy(), folds, evidence.seed))
    parts, order = [], []
    for fold in range(folds):
        out = torch.nonzero(fold_of == fold).flatten()
        one = Training(evidence.seed + fold, torch.nonzero(fold_of != fold).flatten(), (fold, folds))
        parts.append(Opinion.of(_outputs(evidence, one)[out], evidence.labels[out]))
        order.append(out)
    return Opinion.joined(parts).at(torch.cat(order).argsort())


def without_suspects(evidence: Evidence, count: int, suspects: Tensor) -> Opinion:
    """Return the opinion of the mean probability of ``count`` networks that did not learn the suspects (k,).

    A network that has learnt a wrong label finds it likely; what it was not shown it cannot learn by heart. A right
    label left out by mistake is found likely by its like.
    """
    rows = torch.ones(len(evidence.labels), dtype=torch.bool)
    rows[suspects] = False
    kept = torch.nonzero(rows).flatten()
    found = [_outputs(evidence, Training(evidence.seed + n + 1, kept, (n, count))) for n in range(count)]
    return heads.mean_opinion(found, evidence.labels)


@dataclass(frozen=True, eq=False)
class Training:
    """One network to train: its seed, the rows it learns, and which of how many it is."""

    seed: int
    rows: Tensor
    place: tuple[int, int]


def _outputs(evidence: Evidence, training: Training) -> Tensor:
    """Return the log-probabilities (n, c) of a network for all rows; trained where no search has trained it."""
    audit, context = evidence.audit, evidence.context
    if audit.train.content == "text":
        return _text_outputs(evidence, training)
    module, preprocessing = _shape(evidence)
    number, count = training.place
    suited = training_options(audit.train, preprocessing, FitOptions(seed=training.seed))
    options = replace(suited, seed=training.seed)
    made_from: dict[str, Option] = {
        "training": asdict(options),
        "shape": asdict(module.config),
        "pixels": _plain(preprocessing),
    }
    store = _store(evidence, training, {}, made_from)
    known = store.get("outputs")
    if known is not None:
        return known["values"]
    pixels = as_bytes(audit, audit.train).inputs
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        fresh = Baseline(module.config)

    def on_epoch(state: TrainingState) -> None:
        store.put("epoch", state.tensors())
        context.report(number + state.epoch / options.epochs, count, f"Training network {number + 1} of {count}")

    kept = store.get("epoch")
    train(
        fresh,
        pixels,
        evidence.labels,
        options,
        normalise=preprocessing.normalise,
        rows=training.rows,
        resume=None if kept is None else TrainingState.from_tensors(kept),
        on_epoch=on_epoch,
    )
    found = _log_probabilities(fresh, pixels, preprocessing)
    store.put("outputs", {"values": found})
    store.drop("epoch")
    return found


def _text_outputs(evidence: Evidence, training: Training) -> Tensor:
    """Return the same of the built-in text network, which trains in less than a minute."""
    audit, (number, count) = evidence.audit, training.place
    recipe = recipe_of(audit)
    tokenizer = {"model": audit.model.fingerprint}  # the network reads with the model's
    store = _store(evidence, training, tokenizer, {"seed": training.seed})
    known = store.get("outputs")
    if known is None:
        evidence.context.report(number, count, f"Training network {number + 1} of {count}")
        found = recipe.outputs(Task(training.rows.numpy(), training.seed), recipe.rows)
        known = {"values": found.log_softmax(1)}
        store.put("outputs", known)
    return known["values"]


def _store(
    evidence: Evidence, training: Training, fingerprints: dict[str, str], options: dict[str, Option]
) -> ChunkStore:
    """Return where what a network says is kept."""
    audit = evidence.audit
    rows = {"train": audit.train.fingerprint, "rows": sha256(training.rows.numpy().tobytes())}
    bound = Binding("network", fingerprints | rows, options)
    return ChunkStore(audit.project.audit_dir / "caches" / f"network-{bound.key()[:16]}", bound)


def _shape(evidence: Evidence) -> tuple[Baseline, PixelPreprocessing]:
    """Return the audited network and how it reads images; ``check_request`` has refused all but the built-in one."""
    module, preprocessing = evidence.audit.model.module, evidence.audit.model.preprocessing
    assert isinstance(module, Baseline)
    assert isinstance(preprocessing, PixelPreprocessing)
    return module, preprocessing


def _plain(preprocessing: PixelPreprocessing) -> dict[str, Option]:
    """Return the preprocessing as JSON holds it."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(preprocessing).items()}


@torch.inference_mode()
def _log_probabilities(module: Baseline, pixels: Tensor, preprocessing: PixelPreprocessing) -> Tensor:
    """Return (n, c) of the mean probability of an image and, in colour, its mirrored copy."""
    found = []
    for start, stop in slices(len(pixels), EVALUATION_BATCH):
        images = preprocessing.normalise(pixels[start:stop]).contiguous(memory_format=torch.channels_last)
        seen = [images, images.flip(3)] if preprocessing.channels == 3 else [images]
        found.append(torch.logsumexp(torch.stack([module(x).log_softmax(1) for x in seen]), 0) - math.log(len(seen)))
    return torch.cat(found)
