"""How well cheap scores rank rows by memorization, against networks retrained on random halves of the rows.

Digits of scikit-learn (1,297 rows) with a network of one hidden layer, and with a small built-in network, which also
does 2,000 rows of CIFAR-10N. The reference is Feldman and Zhang's; every score is of one network trained on all rows.
What the built-in network learned is kept in a folder and resumed from there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor, nn

from forwardinf_core.audits.memorization.reference import Reference, reference_of
from forwardinf_core.benchmarks import lds_truth
from forwardinf_core.benchmarks.small_network import SmallNetworks
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
from forwardinf_core.verification.retraining import Examples, Outcome, Report, Retraining, Task, half_subsets

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
    """Retrain the built-in network, score, and compare. Takes about a second a network for digits on an idle core."""
    store = ChunkStore(kept / f"{name}-halves", recipe.binding("memorization", watched=recipe.rows))
    tasks = halves_of(len(recipe.rows), models)
    outcomes = Retraining(recipe, recipe.rows, store).outcomes(tasks, report=report)
    module = recipe.network(Task(np.arange(len(recipe.rows)), MODEL_SEED))
    x = recipe.normalise(recipe.rows.inputs).contiguous()
    return compared(name, tasks, outcomes, all_scores(module, {"x": x, "label": recipe.rows.labels}))


def measure_small(rows: Examples, *, models: int = 200) -> Measured:
    """The same with a network of one hidden layer; all networks are trained together, in less than a minute."""
    small = SmallNetworks(rows, int(rows.labels.max()) + 1)
    tasks = halves_of(len(rows), models)
    module = small.module(Task(np.arange(len(rows)), MODEL_SEED))
    scores = all_scores(module, {"x": small.inputs(), "label": rows.labels})
    return compared("digits, one hidden layer", tasks, small.outcomes(tasks), scores)


def halves_of(n_rows: int, models: int) -> list[Task]:
    """Return the tasks of training on random halves."""
    return [Task(half, number) for number, half in enumerate(half_subsets(n_rows, models, SUBSET_SEED))]


def compared(name: str, tasks: list[Task], outcomes: list[Outcome], scores: dict[str, Scores]) -> Measured:
    """Return how well every score ranks the rows, on even positions to choose by and odd ones to report."""
    n_rows, half = len(outcomes[0].labels), len(tasks) // 2
    truth = reference_of(tasks, outcomes, n_rows)
    first = reference_of(tasks[:half], outcomes[:half], n_rows)
    second = reference_of(tasks[half:], outcomes[half:], n_rows)
    choosing = np.arange(n_rows) % 2 == 0
    ranks = tuple(
        Rank(score, rank_correlation(values, truth, choosing), rank_correlation(values, truth, ~choosing))
        for score, values in scores.items()
    )
    ceiling = float(spearmanr(first.memorization, second.memorization, nan_policy="omit").statistic)
    return Measured(name, n_rows, len(tasks), ceiling, ranks)


def all_scores(module: nn.Module, rows: Batch) -> dict[str, Scores]:
    """Return every score of every row from one network trained on all of them."""
    whole = whole_graph(module, Classification(), {name: value[:2] for name, value in rows.items()})
    found: dict[str, Scores] = {"random": np.random.default_rng(0).random(len(rows["label"]))}
    with torch.no_grad():
        outputs = batched(lambda one: whole.outputs({}, one), rows)
    found["loss"] = Classification().losses(outputs, rows).double().numpy()
    chance = np.exp(-found["loss"])
    influences = head_scores(whole, rows)
    tail = find_tail(whole)
    for scope in ("tail", "full") if tail else ("full",):
        network, embedded = tail_of(whole, tail, rows) if tail and scope == "tail" else (whole, rows)
        ekfac = fit_ekfac(network, TensorRows(embedded))
        for damping in TAIL_DAMPINGS:
            name = f"self-influence, {scope}, EK-FAC, damping {damping:g}"
            influences[name] = tail_scores(network, ekfac, embedded, damping)
    for name, values in influences.items():
        found[name] = values
        found[f"{name}, by the probability"] = chance * values
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


def rank_correlation(values: Scores, truth: Reference, rows: NDArray[np.bool_]) -> float:
    """Return the Spearman correlation of a score with the reference, over some rows."""
    known = rows & np.isfinite(truth.memorization)
    return float(spearmanr(values[known], truth.memorization[known]).statistic)
