"""``fit`` for texts: a tokenizer made from the training rows, then the built-in text classifier trained on them."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from forwardinf_core.audits.training_cost import BATCHES, tell_cost
from forwardinf_core.datasets.rows import TextRows, texts_of
from forwardinf_core.errors import ProjectError
from forwardinf_core.influence.objective import Batch
from forwardinf_core.jobs.context import JobContext
from forwardinf_core.models.baseline_folder import save_training
from forwardinf_core.models.language_training import LanguageState
from forwardinf_core.models.text_baseline import PAD_ID, TextBaseline, TextBaselineConfig, trained_tokenizer
from forwardinf_core.models.text_baseline_folder import save_text_baseline
from forwardinf_core.models.text_encoding import TextEncoding, fitting_length
from forwardinf_core.models.text_training import TextTraining, accuracy, train_text
from forwardinf_core.projects.load import Project
from forwardinf_core.store.binding import Option
from forwardinf_core.store.files import write_folder

if TYPE_CHECKING:
    from forwardinf_core.audits.fitting import FitOptions

LONGEST = 256  # tokens read unless model.length says otherwise: twice as many take twice as long and gained nothing
LONG_TEXTS = 100  # tokens on average; above, fewer passes over the rows are as good
EPOCHS, EPOCHS_OF_LONG_TEXTS = 12, 6
FEWEST_STEPS, MOST_EPOCHS = 600, 60  # a few hundred rows are read more often


def fit_text(context: JobContext, project: Project, options: FitOptions) -> dict[str, Option]:
    """Train the classifier and write it to the folder of project.yaml. One chunk an epoch; resumes bit-equal."""
    _refuse_image_options(options)
    rows = texts_of(project.train_rows(project.config.model.classes))
    test = texts_of(project.test_rows(rows.classes))
    context.report(0, 1, "Reading the texts")
    tokenizer = trained_tokenizer((rows.text(position) for position in range(len(rows))), TextTraining().most_tokens)
    length = fitting_length(tokenizer, [rows, test], project.config.model.length or LONGEST)
    encoding = TextEncoding(tokenizer, length, PAD_ID)
    encoded, labels = _encoded(encoding, rows), torch.from_numpy(rows.labels.copy())
    training = suitable_training(encoded, options)
    config = TextBaselineConfig(len(rows.classes), tokenizer.get_vocab_size(), length, training.width)
    torch.manual_seed(options.seed)
    module = TextBaseline(config, dropout=training.dropout)

    def on_epoch(state: LanguageState) -> None:
        context.chunks.put(f"epoch-{state.epoch:05d}", state.tensors())
        context.report(state.epoch, training.epochs, f"Training: loss {state.losses[-1]:.3f}")

    context.report(0, training.epochs, "Training the baseline")
    resume = _last_state(context)
    if resume is None:
        some = torch.nonzero(labels >= 0).flatten()[: BATCHES * training.rows]
        few, once = {name: value[some] for name, value in encoded.items()}, replace(training, epochs=1)
        share = len(some) / len(labels)
        tell_cost(context, module, training.epochs, share, lambda trial: train_text(trial, few, labels[some], once))
    train_text(module, encoded, labels, training, resume=resume, on_epoch=on_epoch)
    folder = project.root / project.config.model.path

    def write(draft: Path) -> None:
        save_text_baseline(draft, module, rows.classes, tokenizer)
        save_training(draft, training)

    write_folder(folder, write)
    return {
        "model": str(folder / "model.safetensors"),
        "test_accuracy": accuracy(module, _encoded(encoding, test), torch.from_numpy(test.labels.copy())),
        "options": {**asdict(training), "length": length, "tokens": config.n_tokens},
    }


def suitable_training(encoded: Batch, options: FitOptions) -> TextTraining:
    """Return how the classifier is trained on these texts."""
    is_long = float(encoded["attention_mask"].sum(1).float().mean()) > LONG_TEXTS
    training = TextTraining(seed=options.seed)
    steps = math.ceil(len(encoded["attention_mask"]) / training.rows)
    usual = EPOCHS_OF_LONG_TEXTS if is_long else EPOCHS
    training = replace(training, epochs=max(usual, min(math.ceil(FEWEST_STEPS / steps), MOST_EPOCHS)))
    return replace(training, epochs=options.epochs or training.epochs, width=options.width or training.width)


def _encoded(encoding: TextEncoding, rows: TextRows) -> Batch:
    return encoding([rows.text(position) for position in range(len(rows))])


def _last_state(context: JobContext) -> LanguageState | None:
    for key in reversed(context.chunks.keys()):
        kept = context.chunks.get(key)
        if kept is not None:
            return LanguageState.from_tensors(kept)
    return None


def _refuse_image_options(options: FitOptions) -> None:
    given = {"--size": options.size, "--held-out": options.held_out, "--patience": options.patience}
    for name, value in given.items():
        if value:
            raise ProjectError(
                f"{name} {value} is given, and the text classifier has no such option.",
                hint="It takes --seed, --epochs and --width; model.length in project.yaml sets the tokens it reads.",
            )
