"""Ground truth of the linear datamodelling score: retrained halves of two image sets, and the models to be scored.

Digits of scikit-learn (1,297 rows, 100 halves × 3 seeds) and CIFAR-10N under its clean labels (2,000 rows, 100 halves),
both with the built-in baseline; and both again with wrong labels (100 halves): 10% of the digits' drawn at random, and
CIFAR-10N's labels by the majority of its annotators. The queries keep their right labels. The first half of the queries
is for choosing a method, the second for reporting it. Everything is kept in a folder and resumed from there: about 5
and 25 minutes of one core for right labels.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor

from forwardinf_core.errors import DataError
from forwardinf_core.models.baseline import Baseline, BaselineConfig
from forwardinf_core.models.training import TrainingOptions
from forwardinf_core.store.chunks import ChunkStore
from forwardinf_core.verification.image_recipe import ImageRecipe
from forwardinf_core.verification.lds import Truth
from forwardinf_core.verification.retraining import Examples, Report, Retraining, Task, half_subsets

ProblemName = Literal["digits", "cifar10n", "digits-noisy", "cifar10n-noisy"]

SPLIT_SEED = 20240611
SUBSET_SEED = 1
NOISE_SEED = 7
WRONG_SHARE = 0.1
N_QUERIES = 100
REFERENCE_SEEDS = (1000, 1001, 1002, 1003, 1004)  # apart from the seeds of the subsets


@dataclass(frozen=True)
class Problem:
    """A set to retrain on, queries from its test rows drawn at random, and how many halves with how many seeds."""

    name: ProblemName
    recipe: ImageRecipe
    queries: Examples
    n_subsets: int
    n_seeds: int

    @property
    def choosing(self) -> range:
        """Queries on which a method and its options are chosen."""
        return range(len(self.queries.labels) // 2)

    @property
    def reporting(self) -> range:
        """Queries on which the chosen ones are reported."""
        return range(len(self.queries.labels) // 2, len(self.queries.labels))


def digits() -> Problem:
    """Return the problem on scikit-learn's digits: 8×8 grey, 1,297 rows to train on."""
    data = load_digits()
    pixels = torch.as_tensor(np.round(data.images * (255 / 16)).astype(np.uint8)).unsqueeze(1)
    labels = torch.as_tensor(data.target).long()
    order = torch.as_tensor(np.random.default_rng(SPLIT_SEED).permutation(len(labels)))
    rows, queries = order[500:], order[:N_QUERIES]
    recipe = ImageRecipe(
        BaselineConfig(10, channels=1, size=8, width=16),
        TrainingOptions(epochs=16, batch_size=64, shift=1),
        Examples(pixels[rows], labels[rows]),
    )
    return Problem("digits", recipe, Examples(pixels[queries], labels[queries]), n_subsets=100, n_seeds=3)


def cifar10n(folder: Path) -> Problem:
    """Return the problem on 2,000 rows of CIFAR-10N under their clean labels. ``folder`` holds its parquet files."""
    train, test = _table(folder / "train.parquet"), _table(folder / "test.parquet")
    random = np.random.default_rng(SPLIT_SEED)
    rows, queries = random.permutation(len(train))[:2_000], random.permutation(len(test))[:N_QUERIES]
    recipe = ImageRecipe(
        BaselineConfig(10, channels=3, size=32, width=16),
        TrainingOptions(epochs=15, batch_size=32, shift=2, flip=True),
        _images(train.iloc[np.sort(rows)]),
    )
    return Problem("cifar10n", recipe, _images(test.iloc[queries]), n_subsets=100, n_seeds=1)


def digits_noisy() -> Problem:
    """Return the problem on digits with a tenth of the training labels replaced by another, uniformly."""
    clean = digits()
    labels = clean.recipe.rows.labels.clone()
    random = np.random.default_rng(NOISE_SEED)
    wrong = torch.as_tensor(random.permutation(len(labels))[: int(WRONG_SHARE * len(labels))])
    labels[wrong] = (labels[wrong] + torch.as_tensor(random.integers(1, 10, len(wrong)))) % 10
    return _relabelled(clean, "digits-noisy", labels)


def cifar10n_noisy(folder: Path) -> Problem:
    """Return the problem on the same rows of CIFAR-10N under ``label_aggre``, a tenth of which are wrong."""
    clean, table = cifar10n(folder), pd.read_parquet(folder / "train.parquet", columns=["label_aggre"])
    rows = np.sort(np.random.default_rng(SPLIT_SEED).permutation(len(table))[:2_000])
    labels = torch.as_tensor(table["label_aggre"].to_numpy()[rows].copy()).long()
    return _relabelled(clean, "cifar10n-noisy", labels)


def _relabelled(clean: Problem, name: ProblemName, labels: Tensor) -> Problem:
    recipe = replace(clean.recipe, rows=Examples(clean.recipe.rows.inputs, labels))
    return replace(clean, name=name, recipe=recipe, n_seeds=1)


def make_truth(problem: Problem, folder: Path, *, workers: int = 1, report: Report | None = None) -> Truth:
    """Return the log-odds of every query's label after retraining on every half; stored below ``folder``."""
    store = ChunkStore(folder / f"{problem.name}-outcomes", problem.recipe.binding("lds", queries=problem.queries))
    halves = half_subsets(len(problem.recipe.rows.labels), problem.n_subsets, SUBSET_SEED)
    tasks = [Task(half, seed) for seed in range(problem.n_seeds) for half in halves]
    outcomes = Retraining(problem.recipe, problem.queries, store).outcomes(tasks, workers=workers, report=report)
    margins = torch.stack([outcome.margins for outcome in outcomes]).reshape(problem.n_seeds, problem.n_subsets, -1)
    return Truth.of(halves, margins.double().numpy())


def reference_models(
    problem: Problem, folder: Path, *, count: int = len(REFERENCE_SEEDS), report: Report | None = None
) -> list[Baseline]:
    """Return the models whose scores are compared: trained on all rows, with the first ``count`` reference seeds."""
    store = ChunkStore(folder / f"{problem.name}-models", problem.recipe.binding("lds-models"))
    everything = np.arange(len(problem.recipe.rows.labels))
    models = []
    for number, seed in enumerate(REFERENCE_SEEDS[:count], start=1):
        kept = store.get(f"seed{seed}")
        if kept is None:
            trained = problem.recipe.network(Task(everything, seed))
            kept = {name: value.contiguous() for name, value in trained.state_dict().items()}
            store.put(f"seed{seed}", kept)
        module = Baseline(problem.recipe.config)
        module.load_state_dict(kept)
        models.append(module.eval())
        if report is not None:
            report(number / count, f"{number} of {count} models trained")
    return models


def _table(path: Path) -> pd.DataFrame:
    if not path.exists():
        raise DataError(f"{path} is not there.", hint="Give the folder that holds CIFAR-10N's train and test.parquet.")
    return pd.read_parquet(path, columns=["image", "label"])


def _images(table: pd.DataFrame) -> Examples:
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(content)).convert("RGB")) for content in table["image"]])
    return Examples(_channels_first(pixels), torch.as_tensor(table["label"].to_numpy().copy()).long())


def _channels_first(pixels: np.ndarray) -> Tensor:
    return torch.as_tensor(pixels).permute(0, 3, 1, 2).contiguous()
