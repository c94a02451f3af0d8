"""What every contender is given: models trained alike, the rows they were trained on, queries, and the known truth.

The models are trained by the project's own recipe with seeds apart from those of the retrained halves. Where the
project knows which labels are wrong (``reference_label``) or which rows are copies (a demo's planted ones), scores are
judged by that too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from forwardinf_core.audits.audit import Audit
from forwardinf_core.errors import DataError
from forwardinf_core.models.baseline import Baseline, BaselineConfig
from forwardinf_core.models.training import TrainingState, train
from forwardinf_core.store.chunks import ChunkStore
from forwardinf_core.verification.fidelity import drawn_queries
from forwardinf_core.verification.image_recipe import ImageRecipe
from forwardinf_core.verification.recipes import recipe_of, retraining_of
from forwardinf_core.verification.retraining import Retraining

FIRST_SEED = 1000  # of the models that are scored; halves are retrained with seeds from 0
N_CHECKPOINTS = 3
COPY = "Planted copy of test row "

Report = Callable[[float, str], None]


@dataclass(frozen=True)
class Scene:
    """Inputs are normalised float images. ``checkpoints``: per model, weights along its training, the last its own."""

    config: BaselineConfig
    rows: Tensor
    labels: Tensor
    queries: Tensor
    query_labels: Tensor
    checkpoints: tuple[tuple[dict[str, Tensor], ...], ...]

    def model(self, index: int) -> Baseline:
        """Return a model in eval mode."""
        module = Baseline(self.config)
        module.load_state_dict(self.checkpoints[index][-1])
        return module.eval()

    def asking(self, first: int, last: int) -> Scene:
        """Return the scene with some of the queries."""
        return replace(self, queries=self.queries[first:last], query_labels=self.query_labels[first:last])


@dataclass(frozen=True)
class Truth:
    """What is known of the rows beside retraining. Positions of queries are those of the scene."""

    fidelity_queries: int  # the first of the scene's queries; those of copies follow
    wrong: NDArray[np.bool_] | None  # (n_rows,) labels known to be wrong
    copies: tuple[tuple[int, int], ...]  # (query, row)
    copy_tests: tuple[int, ...]  # the same queries as positions among the test rows


def make_scene(
    audit: Audit, *, models: int, queries: int, pairs: Path | None = None, report: Report | None = None
) -> tuple[Scene, Truth, NDArray[np.int64], Retraining]:
    """Return scene, truth, positions of the queries among the test rows, and the project's retraining.

    ``pairs``: a CSV of known copies, columns test_id and train_id; without it a demo's planted ones.
    Raises DataError where a training row has no label, and ModelError where the project cannot be retrained.
    """
    recipe = recipe_of(audit, report)
    assert isinstance(recipe, ImageRecipe)
    if bool((recipe.rows.labels < 0).any()):
        raise DataError("Some training rows have no label.", hint="Leave them out of the project to compare on it.")
    drawn = drawn_queries(audit, queries)
    leaked = _copies(audit) if pairs is None else _listed(audit, pairs)
    asked = list(dict.fromkeys([*drawn.tolist(), *(test for test, _ in leaked)]))
    retraining = retraining_of(audit, report)
    n_train = len(audit.train_ids)
    shown = retraining.watched.at([n_train + position for position in asked])
    folder = audit.project.audit_dir / "retrained"
    kept = tuple(_checkpoints(recipe, FIRST_SEED + number, folder, report) for number in range(models))
    scene = Scene(
        recipe.config,
        recipe.normalise(recipe.rows.inputs),
        recipe.rows.labels,
        recipe.normalise(shown.inputs),
        shown.labels,
        kept,
    )
    copies = tuple((asked.index(test), row) for test, row in leaked)
    return scene, Truth(len(drawn), _wrong(audit), copies, tuple(test for test, _ in leaked)), drawn, retraining


def _checkpoints(recipe: ImageRecipe, seed: int, folder: Path, report: Report | None) -> tuple[dict[str, Tensor], ...]:
    """Return the weights of a model along its training on all rows; stored below ``folder``."""
    binding = recipe.binding("checkpoints")
    store = ChunkStore(folder / f"models-{binding.key()[:16]}", binding)
    epochs = recipe.options.epochs
    at = [max(1, round(epochs * (part + 1) / N_CHECKPOINTS)) for part in range(N_CHECKPOINTS)]
    if store.get(f"seed{seed}-epoch{at[-1]}") is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = Baseline(recipe.config)

        def on_epoch(state: TrainingState) -> None:
            if state.epoch in at:
                store.put(f"seed{seed}-epoch{state.epoch}", state.weights)
            if report is not None:
                report(state.epoch / epochs, f"Training the model of seed {seed}")

        options = replace(recipe.options, seed=seed)
        train(module, recipe.rows.inputs, recipe.rows.labels, options, normalise=recipe.normalise, on_epoch=on_epoch)
    found = [store.get(f"seed{seed}-epoch{epoch}") for epoch in at]
    return tuple(one for one in found if one is not None)


def _copies(audit: Audit) -> list[tuple[int, int]]:
    """Return (test position, training position) of every planted copy."""
    said = [(row, audit.planted(row)) for row in range(len(audit.train_ids))]
    return [(audit.test.position(text.removeprefix(COPY)), row) for row, text in said if text.startswith(COPY)]


def _listed(audit: Audit, path: Path) -> list[tuple[int, int]]:
    """Return the pairs of a file whose rows are both in the project and labelled."""
    table = pd.read_csv(path, dtype=str)
    if not {"test_id", "train_id"} <= set(table.columns):
        raise DataError(f"{path.name} has no columns test_id and train_id.", hint=f"Found {', '.join(table.columns)}.")
    train, test = ({row_id: place for place, row_id in enumerate(ids)} for ids in (audit.train_ids, audit.test_ids))
    known = [
        (test[a], train[b])
        for a, b in zip(table["test_id"], table["train_id"], strict=True)
        if a in test and b in train
    ]
    return [pair for pair in dict(known).items() if audit.test.labels[pair[0]] >= 0]


def _wrong(audit: Audit) -> NDArray[np.bool_] | None:
    reference = audit.project.config.reference_label
    if reference is None:
        return None
    return np.asarray(audit.train.labels_in(reference) != audit.train_labels)
