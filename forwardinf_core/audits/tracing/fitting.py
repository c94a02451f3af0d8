"""``fit`` for language projects: a tokenizer and a small model trained on the corpus. One chunk an epoch; resumes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from torch import nn

from forwardinf_core.audits.training_cost import BATCHES, tell_cost
from forwardinf_core.errors import DataError, ProjectError
from forwardinf_core.influence.language import LanguageModelling
from forwardinf_core.influence.objective import Batch
from forwardinf_core.jobs.context import JobContext
from forwardinf_core.jobs.registry import job
from forwardinf_core.models.language import LanguageModel
from forwardinf_core.models.language_baseline import LanguageShape, language_module, suitable_shape, trained_tokenizer
from forwardinf_core.models.language_text import Pieces, pieces_of
from forwardinf_core.models.language_training import LanguageState, LanguageTraining, train_language
from forwardinf_core.projects.language import open_language_project
from forwardinf_core.store.binding import Option
from forwardinf_core.store.files import TEMPORARY_PREFIX, disk_errors, make_folder


@dataclass(frozen=True)
class LanguageFitOptions:
    """How to train; None takes what suits the corpus."""

    seed: int = 0
    epochs: int | None = None
    width: int | None = None


def fingerprints_of(project: Path, _options: LanguageFitOptions) -> dict[str, str]:
    """Return what training reads."""
    return {"texts": open_language_project(project).texts.fingerprint}


@job("fit-language", version=1, fingerprints=fingerprints_of)
def fit_language(context: JobContext, options: LanguageFitOptions) -> dict[str, Option]:
    """Train the built-in language model into the folder that project.yaml names; returns its loss and where it is."""
    project = open_language_project(context.project)
    source = project.config.model
    if source.kind != "baseline":
        raise ProjectError(
            f"The model of this project is of kind {source.kind}, which fit does not train.",
            hint="fit trains the built-in model: set model: {kind: baseline, path: model/} in project.yaml.",
        )
    texts, targets, task = project.texts.texts, project.texts.targets, project.config.task
    characters = sum(len(text) for text in texts)
    if not characters:
        raise DataError("The training texts are all empty.", hint="Check the column that text: names in project.yaml.")
    shape = suitable_shape(characters)
    if options.width is not None:
        shape = LanguageShape(shape.vocabulary, options.width, shape.layers, shape.heads, shape.context)
    context.report(0, 1, "Learning the words")
    words = [*texts, *(targets or ())]
    tokenizer = trained_tokenizer(words, shape.vocabulary, task)
    module = language_module(task, shape, len(tokenizer), seed=options.seed)
    model = LanguageModel(
        module, tokenizer, LanguageModelling(task), shape.context, 0, tokenizer.eos_token_id, "", source.path
    )
    pieces = pieces_of(model, texts, targets)
    training = suitable_training(sum(pieces.lengths), options)

    def on_epoch(state: LanguageState) -> None:
        context.chunks.put(f"epoch-{state.epoch:05d}", state.tensors())
        context.report(state.epoch, training.epochs, f"Training: loss {state.losses[-1]:.2f} a token")

    resume = _last_state(context)
    if resume is None and len(pieces):
        _tell_cost(context, module, model, pieces, training)
    losses = train_language(
        module,
        model.objective,
        pieces.lengths,
        pieces.batch,
        training,
        resume=resume,
        on_epoch=on_epoch,
    )
    folder = project.root / source.path
    _write(folder, model)
    return {
        "model": str(folder / "model.safetensors"),
        "loss": losses[-1],
        "parameters": sum(value.numel() for value in module.parameters()),
        "options": {**asdict(training), **{f"model_{name}": value for name, value in asdict(shape).items()}},
    }


def _tell_cost(
    context: JobContext, module: nn.Module, model: LanguageModel, pieces: Pieces, training: LanguageTraining
) -> None:
    """Train a copy on pieces of every length, about BATCHES batches of them, and say what all of it costs."""
    every = max(1, sum(pieces.lengths) // (BATCHES * training.batch_tokens))
    few = list(range(0, len(pieces), every))
    lengths, once = [pieces.lengths[place] for place in few], replace(training, epochs=1)

    def batch_of(positions: Sequence[int]) -> Batch:
        return pieces.batch([few[place] for place in positions])

    def train_some(trial: nn.Module) -> None:
        train_language(trial, model.objective, lengths, batch_of, once)

    tell_cost(context, module, training.epochs, sum(lengths) / sum(pieces.lengths), train_some)


def suitable_training(n_tokens: int, options: LanguageFitOptions) -> LanguageTraining:
    """Return how a model is trained on so many tokens: small corpora are read more often."""
    epochs = 14 if n_tokens < 100_000 else 8
    return LanguageTraining(epochs=options.epochs or epochs, learning_rate=3e-3, seed=options.seed)


def _last_state(context: JobContext) -> LanguageState | None:
    for key in reversed(context.chunks.keys()):
        kept = context.chunks.get(key)
        if kept is not None:
            return LanguageState.from_tensors(kept)
    return None


def _write(folder: Path, model: LanguageModel) -> None:
    """Write the model's files, each whole or not at all, weights last."""
    make_folder(folder)
    draft = folder / f"{TEMPORARY_PREFIX}model"
    shutil.rmtree(draft, ignore_errors=True)
    make_folder(draft)
    with disk_errors(folder):
        model.module.save_pretrained(draft)  # type: ignore[operator]
        model.tokenizer.save_pretrained(draft)
        for file in sorted(draft.iterdir(), key=lambda path: path.suffix == ".safetensors"):
            os.replace(file, folder / file.name)
        draft.rmdir()
