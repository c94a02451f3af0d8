"""How well cheap scores rank rows by memorisation, against networks retrained on random halves of the rows.

Digits of scikit-learn (1,297 rows) and 2,000 rows of CIFAR-10N under their human labels, both with a small built-in
network. The reference is Feldman and Zhang's; every score is of one network trained on all rows. Everything is kept
in a folder and resumed from there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor

from forwardinf_core.audits.memorization.reference import Reference, reference_of
from forwardinf_core.benchmarks import lds_truth
from forwardinf_core.influence.anatomy import find_head, find_tail
from forwardinf_core.influence.curvature.ekfac import EkfacCurvature, fit_ekfac
from forwardinf_core.influence.graph import GraphNetwork, whole_graph
from forwardinf_core.influence.head import FEATURES, FISHER, HESSIAN, HeadFisherFit, HeadNetwork
from forwardinf_core.influence.network import TensorRows, slices
from forwardinf_core.influence.objective import Batch, Classification
from forwardinf_core.influence.self_influence import self_influences, tail_self_influences
from forwardinf_core.influence.split import cut
from forwardinf_core.store.chunks import ChunkStore
from forwardinf_core.verification.image_recipe import ImageRecipe
from forwardinf_core.verification.retraining import Report, Retraining, Task, half_subsets

SUBSET_SEED, MODEL_SEED = 7, 5_000
BATCH = 100
HEAD_DAMPINGS = (3e-4, 1e-2)
TAIL_DAMPINGS = (1e-8, 1e-4)
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Rank:
    """Spearman correlation of a score with the reference, over the rows for choosing and those for reporting."""

    score: str
    choosing: float
    reporting: float


@dataclass(frozen=True)
class Measured:
    """All scores on one problem. ``ceiling``: the reference of one half of the networks against the other half's."""

    problem: str
    n_rows: int
    n_models: int
    ceiling: float
    ranks: tuple[Rank, ...]


def problem_recipe(name: str, folder: Path | None) -> ImageRecipe:
    """Return the recipe of a problem, with half of the width that the fidelity is measured with."""
    if name == "digits":
        found = lds_truth.digits().recipe
    else:
        assert folder is not None
        found = lds_truth.cifar10n(folder).recipe
    return replace(found, config=replace(found.config, width=8))


def measure(name: str, recipe: ImageRecipe, kept: Path, *, models: int = 200, report: Report | None = None) -> Measured:
    """Retrain, score, and compare. Takes about a second a network for digits on an idle core."""
    n_rows = len(recipe.rows)
    store = ChunkStore(kept / f"{name}-halves", recipe.binding("memorization", watched=recipe.rows))
    retraining = Retraining(recipe, recipe.rows, store)
    tasks = [Task(half, number) for number, half in enumerate(half_subsets(n_rows, models, SUBSET_SEED))]
    outcomes = retraining.outcomes(tasks, report=report)
    truth = reference_of(tasks, outcomes, n_rows)
    half = len(tasks) // 2
    first, second = (
        reference_of(tasks[:half], outcomes[:half], n_rows),
        reference_of(tasks[half:], outcomes[half:], n_rows),
    )
    everything = all_scores(recipe)
    choosing = np.arange(n_rows) % 2 == 0
    ranks = tuple(
        Rank(score, _spearman(values, truth, choosing), _spearman(values, truth, ~choosing))
        for score, values in everything.items()
    )
    ceiling = float(spearmanr(first.memorization, second.memorization, nan_policy="omit").statistic)
    return Measured(name, n_rows, len(tasks), ceiling, ranks)


def all_scores(recipe: ImageRecipe) -> dict[str, Scores]:
    """Return every score of every row from one network trained on all of them."""
    module, _ = recipe.network(Task(np.arange(len(recipe.rows)), MODEL_SEED))
    x = recipe.normalise(recipe.rows.inputs).contiguous()
    rows: Batch = {"x": x, "label": recipe.rows.labels}
    whole = whole_graph(module, Classification(), {name: value[:2] for name, value in rows.items()})
    found: dict[str, Scores] = {"random": np.random.default_rng(0).random(len(x))}
    with torch.no_grad():
        outputs = batched(lambda one: whole.outputs({}, one), rows)
    found["loss"] = Classification().losses(outputs, rows).double().numpy()
    found |= head_scores(whole, rows)
    for scope, names in (("tail", find_tail(whole)), ("full", None)):
        network, embedded = (whole, rows) if names is None else tail_of(whole, names, rows)
        ekfac = fit_ekfac(network, TensorRows(embedded))
        for damping in TAIL_DAMPINGS:
            found[f"self-influence, {scope}, EK-FAC, damping {damping:g}"] = tail_scores(
                network, ekfac, embedded, damping
            )
    return found


def head_scores(whole: GraphNetwork, rows: Batch) -> dict[str, Scores]:
    """Return the head's self-influence with the empirical Fisher and the Gauss-Newton matrix."""
    head = find_head(whole)
    assert head is not None
    part = cut(whole, [head])
    network = HeadNetwork.of_tail(part.tail, head)
    (activation,) = part.tail.inputs
    features = batched(lambda one: part.trunk(one)[activation], rows)
    batch = {FEATURES: features, "label": rows["label"]}
    found = {}
    for kind, word in ((FISHER, "Fisher"), (HESSIAN, "Gauss-Newton")):
        fit = HeadFisherFit(network, kind=kind)
        curvature = fit.finish(fit.accumulate(fit.start(), batch))
        for damping in HEAD_DAMPINGS:
            values = self_influences(network, batch, curvature, damping=damping).double().numpy()
            found[f"self-influence, head, {word}, damping {damping:g}"] = values
    return found


def tail_of(whole: GraphNetwork, names: tuple[str, ...], rows: Batch) -> tuple[GraphNetwork, Batch]:
    """Return the tail and its inputs."""
    part = cut(whole, names)
    parts = [part.trunk({name: value[start:stop] for name, value in rows.items()}) for start, stop in _slices(rows)]
    return part.tail, {name: torch.cat([one[name] for one in parts]) for name in parts[0]}


def tail_scores(network: GraphNetwork, ekfac: EkfacCurvature, rows: Batch, damping: float) -> Scores:
    """Return the self-influence of every row under EK-FAC."""
    found: Scores = (
        batched(lambda one: tail_self_influences(network, ekfac, one, damping=damping), rows).double().numpy()
    )
    return found


def batched(compute: Callable[[Batch], Tensor], rows: Batch) -> Tensor:
    """Return what is computed of all rows, in batches."""
    return torch.cat([compute({name: v[start:stop] for name, v in rows.items()}) for start, stop in _slices(rows)])


def _slices(rows: Batch) -> list[tuple[int, int]]:
    return list(slices(len(rows["label"]), BATCH))


def _spearman(values: Scores, truth: Reference, rows: NDArray[np.bool_]) -> float:
    known = rows & np.isfinite(truth.memorization)
    return float(spearmanr(values[known], truth.memorization[known]).statistic)
