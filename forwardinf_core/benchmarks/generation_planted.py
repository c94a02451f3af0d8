"""Planted: the base model is tuned on one to three images it has not seen; are they found behind what it then paints?

A small form of the benchmark of customised models (Wang, Efros, Zhu, Zhang 2023). The exemplars are real held-out rows
of one class, under that class, so that the label does not give them away: all training rows of the class compete. Half
of what the tuning visits are exemplars, half random training rows. Pictures of the class that the tuned model paints
are traced among all training rows and the exemplars.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch import nn

from forwardinf_core.audits.generation.methods import Method
from forwardinf_core.benchmarks.generation_figures import Interval, mean_interval, recall_at
from forwardinf_core.benchmarks.generation_retraining import painted
from forwardinf_core.benchmarks.generation_scores import Query, Report, Scene
from forwardinf_core.benchmarks.generation_sets import PictureSet, encoded, kept_module, write_rows
from forwardinf_core.models.denoiser_training import DenoiserTraining, train_denoiser
from forwardinf_core.store.chunks import ChunkStore

KS = (1, 3, 10, 30)
PICTURES = 2  # of a tuned model
VISITS = 480  # of exemplars in an epoch, and as many of other training rows
TUNING = DenoiserTraining(epochs=4, batch_size=32, learning_rate=1e-3, averaging=0.98)
CHOOSING_FIRST = 1_000  # number of the first tuned model to choose options on; those to report on begin at 0


@dataclass(frozen=True)
class Tuned:
    """A model tuned on exemplars, the rows it has seen, where among them the exemplars are, and what it painted."""

    scene: Scene
    exemplars: tuple[int, ...]
    queries: tuple[Query, ...]


@dataclass(frozen=True)
class PlantedFigure:
    """Which share of the exemplars is among the first k, of as many as fit there; intervals over tuned models.

    ``first`` is the share of pictures whose first row is an exemplar. ``exemplars`` 0 stands for all numbers of them.
    """

    ranking: str
    options: dict[str, str | int | float | bool | None]
    exemplars: int
    n_models: int
    n_queries: int
    n_rows: int
    recall: dict[str, Interval]


def measure_planted(
    chosen: PictureSet, half: str, models: int, methods: dict[str, Method], report: Report
) -> list[PlantedFigure]:
    """Return recall for each number of exemplars, and for all. Models have 1, 2, 3, 1, … exemplars in turn."""
    counts, found = [], []
    for number in range(models):
        tuned = tuned_model(chosen, number + (0 if half == "report" else CHOOSING_FIRST), number % 3 + 1)
        part = number / models

        def told(done: float, note: str, part: float = part) -> None:
            report(part + done / models, note)

        scores = tuned.scene.all_scores(tuned.queries, methods, told)
        counts.append(len(tuned.exemplars))
        found.append(
            {
                name: np.array([[recall_at(values, tuned.exemplars, k) for k in KS] for values in columns]).mean(0)
                for name, columns in scores.items()
            }
        )
    figures = []
    for exemplars in (0, *sorted(set(counts))):
        chosen_models = [one for one, count in zip(found, counts, strict=True) if exemplars in (0, count)]
        for name in found[0]:
            table = np.stack([one[name] for one in chosen_models])  # (models, ks)
            recall = {str(k): mean_interval(table[:, at]) for at, k in enumerate(KS)}
            options = methods[name].options() if name in methods else {}
            n_queries = PICTURES * len(table)
            n_rows = len(chosen.rows) + exemplars
            figures.append(PlantedFigure(name, options, exemplars, len(table), n_queries, n_rows, recall))
    return figures


def tuned_model(chosen: PictureSet, number: int, count: int) -> Tuned:
    """Return a tuned model, made once and kept. ``number`` decides class, exemplars, other rows and noise."""
    random = np.random.default_rng([number, 5])
    label = int(random.integers(len(chosen.classes)))
    held = random.permutation(np.flatnonzero(chosen.held_out.labels == label))[:count].tolist()
    folder = chosen.folder / f"planted-{number:04d}-{count}"
    rows = write_rows(
        folder, "train", pd.concat([_table(chosen, "train"), _table(chosen, "held-out").iloc[held]]), chosen.classes
    )
    samples = torch.cat([chosen.samples, encoded(chosen.recipe, chosen.held_out)[held]])
    labels = torch.cat([chosen.labels, torch.full((count,), label)])
    exemplars = tuple(range(len(chosen.rows), len(rows)))

    def tune() -> nn.Module:
        module = chosen.recipe.untrained(0)
        module.load_state_dict(chosen.base.module.state_dict())
        others = torch.from_numpy(random.permutation(len(chosen.rows))[:VISITS].copy())
        visits = torch.cat([others, torch.tensor(exemplars).repeat(VISITS // count)])
        options = replace(TUNING, seed=number)
        null_label = chosen.recipe.config.n_classes
        train_denoiser(module, samples, labels, chosen.recipe.objective(), options, null_label=null_label, rows=visits)
        return module

    binding = chosen.recipe.binding("tuned", rows=rows.fingerprint, base=chosen.base.fingerprint)
    store = ChunkStore(folder / "models", binding)
    model = chosen.recipe.model(kept_module(store, "tuned", chosen.recipe, tune), chosen.classes)
    drawn = painted(model, torch.full((PICTURES,), label), _noise(number))
    pictures = model.codec.encode(model.codec.decode(drawn))
    queries = tuple(Query(pictures[at : at + 1].clone(), label) for at in range(PICTURES))
    return Tuned(Scene(model, rows, folder), exemplars, queries)


def _noise(number: int) -> Sequence[int]:
    return range(PICTURES * number, PICTURES * (number + 1))


def _table(chosen: PictureSet, name: str) -> pd.DataFrame:
    return pd.read_parquet(chosen.folder / f"{name}.parquet")
