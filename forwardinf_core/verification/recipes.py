"""From an open project to what can be retrained: its own training rows, by the recipe of the built-in networks.

What is retrained is watched on all rows of the project, training rows first and test rows after them, so that every
question (fidelity, removal, memorization, cleaning) reads the same stored outcomes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.fitting import FitOptions, training_options
from forwardinf_core.audits.text_fitting import suitable_training
from forwardinf_core.datasets.rows import DataRows, texts_of
from forwardinf_core.errors import ModelError
from forwardinf_core.influence.network import slices
from forwardinf_core.models.baseline import Baseline
from forwardinf_core.models.baseline_folder import load_training
from forwardinf_core.models.preprocessing import PixelPreprocessing
from forwardinf_core.models.rows import ModelRows
from forwardinf_core.models.text_baseline import TextBaseline
from forwardinf_core.models.text_encoding import TextEncoding
from forwardinf_core.models.text_training import TextTraining
from forwardinf_core.models.training import TrainingOptions
from forwardinf_core.store.arrays import ArrayWriter, Layout, is_complete, open_tensor
from forwardinf_core.store.binding import Binding
from forwardinf_core.store.chunks import ChunkStore
from forwardinf_core.verification.image_recipe import ImageRecipe, Moments
from forwardinf_core.verification.retraining import Examples, Report, Retraining
from forwardinf_core.verification.text_recipe import TextRecipe, batch_as_tokens, tokens_as_batch

BLOCK = 1000  # rows decoded between two reports
HEAD_ONLY = "Its last layer alone can be refitted in seconds where it has a linear head: that check is still offered."


def can_be_retrained(audit: Audit) -> bool:
    """Say whether ``recipe_of`` has a recipe for the project's model."""
    module, inputs = audit.model.module, audit.model.inputs
    return (isinstance(module, Baseline) and isinstance(inputs, PixelPreprocessing)) or (
        isinstance(module, TextBaseline) and isinstance(inputs, TextEncoding)
    )


def recipe_of(audit: Audit, report: Report | None = None) -> ImageRecipe | TextRecipe:
    """Return how the project's model is trained. ``report`` is told while its rows are read, once a project.

    Raises ModelError, saying what is possible instead, where the model was not trained by ``fit``.
    """
    module, inputs = audit.model.module, audit.model.inputs
    folder = audit.project.root / audit.project.config.model.path
    if isinstance(module, Baseline) and isinstance(inputs, PixelPreprocessing):
        training = load_training(folder, TrainingOptions) or training_options(audit.train, inputs, FitOptions())
        mean, spread = (tuple(255 * value for value in part) for part in (inputs.mean, inputs.std))
        return ImageRecipe(module.config, training, as_bytes(audit, audit.train, report), Moments(mean, spread))
    if isinstance(module, TextBaseline) and isinstance(inputs, TextEncoding):
        rows = as_tokens(audit, audit.train, report)
        text_training = load_training(folder, TextTraining)
        if text_training is None:  # the model is older than its record
            text_training = suitable_training(tokens_as_batch(rows.inputs), FitOptions(width=module.config.width))
        return TextRecipe(module.config, text_training, rows)
    raise ModelError(
        f"A model of kind {audit.model.kind} cannot be retrained here: how it was trained is not known.",
        hint=HEAD_ONLY,
    )


def epochs_of(audit: Audit) -> int:
    """Return over how many epochs the project's model is trained anew. Raises ModelError as ``recipe_of``."""
    inputs, folder = audit.model.inputs, audit.project.root / audit.project.config.model.path
    if isinstance(audit.model.module, Baseline) and isinstance(inputs, PixelPreprocessing):
        return (load_training(folder, TrainingOptions) or training_options(audit.train, inputs, FitOptions())).epochs
    if isinstance(audit.model.module, TextBaseline) and (kept := load_training(folder, TextTraining)) is not None:
        return kept.epochs
    return recipe_of(audit).options.epochs


def retraining_of(audit: Audit, report: Report | None = None) -> Retraining:
    """Return the project's retraining, watched on all training rows and, from position len(audit.train), all test rows.

    Raises ModelError as ``recipe_of``.
    """
    recipe = recipe_of(audit, report)
    watched = Examples.joined(recipe.rows, examples_of(audit, audit.test, report))
    binding = recipe.binding("retraining", watched=watched)
    return Retraining(recipe, watched, ChunkStore(audit.project.audit_dir / "retrained" / binding.key()[:16], binding))


def examples_of(audit: Audit, rows: DataRows, report: Report | None = None) -> Examples:
    """Return a project's rows as ``recipe_of`` trains on them: images as bytes, texts as tokens."""
    return (as_tokens if audit.content == "text" else as_bytes)(audit, rows, report)


def as_tokens(audit: Audit, rows: DataRows, report: Report | None = None) -> Examples:
    """Return a project's texts as its model reads them."""
    encoding, texts = audit.model.inputs, texts_of(rows)
    assert isinstance(encoding, TextEncoding)
    parts = []
    for start, stop in slices(len(rows), BLOCK):
        parts.append(batch_as_tokens(encoding([texts.text(position) for position in range(start, stop)])))
        if report is not None:
            report(stop / len(rows), "Reading the texts")
    return Examples(torch.cat(parts), torch.from_numpy(rows.labels.copy()))


def as_bytes(audit: Audit, rows: DataRows, report: Report | None = None) -> Examples:
    """Return a project's rows as its model sees them, decoded once and read back from then on."""
    preprocessing = audit.model.preprocessing
    assert isinstance(preprocessing, PixelPreprocessing)
    size, channels = preprocessing.size, preprocessing.channels
    # The same folder and binding as those of ``fit``: what that decoded is used here.
    bound = Binding("pixels", {"train": rows.fingerprint}, {"size": size, "channels": channels})
    folder = audit.project.audit_dir / "caches" / f"pixels-{bound.key()[:16]}"
    if not is_complete(folder, bound):
        source = ModelRows(audit.model, rows, needs_labels=False)
        with ArrayWriter(folder, Layout((len(rows), channels, size, size), "uint8", BLOCK), bound) as writer:
            for start, stop in writer.missing():
                writer.write(start, source.pixels(start, stop))
                if report is not None:
                    report(stop / len(rows), "Decoding the images")
    pixels: Tensor = open_tensor(folder, bound).clone()  # a mapped file cannot be handed to the processes of a pool
    return Examples(pixels, torch.from_numpy(rows.labels.copy()))
