r"""The table of linear datamodelling scores: every named method, one model and the mean of five.

Options (damping) of each family are chosen on the first half of the queries and reported on the second. The interval
is a bootstrap over subsets and queries of the reporting half; that of one model is the mean of the models' intervals.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from forwardinf_core.audits.methods import DEFAULT_DAMPING
from forwardinf_core.benchmarks.lds_scores import ITERATIONS, Method, Scene, Scope, scopes_of
from forwardinf_core.benchmarks.lds_truth import Problem
from forwardinf_core.errors import ModelError
from forwardinf_core.influence.combining import average_scores, shortlist_positions
from forwardinf_core.models.baseline import Baseline
from forwardinf_core.store.chunks import ChunkStore
from forwardinf_core.verification.lds import Lds, Truth, linear_datamodelling_score
from forwardinf_core.verification.retraining import Report

DAMPINGS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
RISES = (0.03, 0.1, 0.3, 1.0)
SUBSPACES = (512, 2_048)
SCOPES: tuple[Scope, ...] = ("head", "tail", "tail2", "full")
HEAD = Method("exact", "head", 3e-4)  # as the app picks a cascade's shortlist
SHORTLIST = 0.05

Scores = NDArray[np.float64]
"""(n_models, n_queries, n_train)"""


@dataclass(frozen=True)
class Line:
    """One family of methods with the damping chosen for it, reported for single models and for their average."""

    method: Method
    choosing: float  # LDS of one model on the choosing queries
    one: tuple[float, float, float]  # LDS, low, high on the reporting queries; mean over the models
    mean: tuple[float, float, float]  # the same of the averaged scores


def grid() -> list[Method]:
    """Return every method in the limit of a short step, and the released recipe."""
    methods = [Method("released", "full"), HEAD]
    for scope in SCOPES:
        methods += [Method("gradient", scope), Method("adam", scope)]
        for damping in DAMPINGS:
            methods += [Method("diagonal", scope, damping), Method("ekfac", scope, damping)]
            methods += [Method("exact", scope, damping)]
            if scope.startswith("tail"):
                methods += [Method("subspace", scope, damping, size) for size in SUBSPACES]
                methods += [Method("blended", scope, damping, size) for size in SUBSPACES]
            if scope == "tail" and damping in DAMPINGS[1:4]:
                methods += [Method("conjugate-gradient", scope, damping, size) for size in ITERATIONS]
                methods += [Method("conjugate-gradient", scope, damping, size, True) for size in ITERATIONS]
    return [*methods, Method("blended", "tail", DEFAULT_DAMPING["subspace"], 2_048)]


def steps(damping: float) -> list[Method]:
    """Return the mirrored steps of a length that can be seen, at one damping."""
    methods = [Method("adam", "full", steps=10, rise=0.1), Method("adam", "tail", steps=10, rise=0.1)]
    for rise in RISES:
        methods += [Method("exact", "tail", damping, rise=rise), Method("exact", "head", damping, rise=rise)]
        methods += [Method("ekfac", "tail", damping, rise=rise), Method("gradient", "tail", rise=rise)]
    return methods


def make_scores(
    problem: Problem,
    models: Sequence[Baseline],
    methods: Sequence[Method],
    folder: Path,
    *,
    report: Report | None = None,
) -> dict[Method, Scores]:
    """Return the scores of each method; stored below ``folder`` and read from there when they are there.

    A method that refuses is left out, with the reason in the report.
    """
    store = ChunkStore(folder / f"{problem.name}-scores", problem.recipe.binding("lds-scores", queries=problem.queries))
    found: dict[Method, list[NDArray[np.float64]]] = {method: [] for method in methods}
    refused: set[Method] = set()
    pieces = [(index, scope) for index in range(len(models)) for scope in scopes_of(methods)]
    for done, (index, scope) in enumerate(pieces):
        scene = Scene(problem, models[index], scope)
        for method in methods:
            if method.scope != scope or method in refused:
                continue
            key = f"{method.key}-model{index}"
            kept = store.get(key)
            if kept is None:
                try:
                    kept = {"scores": scene.scores(method).float()}
                except ModelError as error:
                    refused.add(method)
                    _tell(report, done / len(pieces), f"{method.key} is left out: {error.title}")
                    continue
                store.put(key, kept)
            found[method].append(kept["scores"].double().numpy())
        _tell(report, (done + 1) / len(pieces), f"model {index + 1}, {scope}")
    return {method: np.stack(scores) for method, scores in found.items() if method not in refused}


def cascades(scores: dict[Method, Scores]) -> dict[Method, Scores]:
    """Return what a cascade makes of the head's scores and of EK-FAC's on every layer, at each damping of the latter.

    ``cascade`` counts its shortlist alone, every other row as 0: what a person sees under "helped" and "hurt".
    ``cascade-filled`` has the head's scores for the others, brought to the same root mean square on the shortlist.
    """
    found: dict[Method, Scores] = {}
    for method, full in scores.items() if HEAD in scores else ():
        if method.kind != "ekfac" or method.scope != "full":
            continue
        alone, filled = np.zeros_like(full), scores[HEAD].copy()
        for query in np.ndindex(full.shape[:2]):
            head = scores[HEAD][query]
            rows = shortlist_positions(head.astype(np.float32), SHORTLIST)
            alone[query][rows] = full[query][rows]
            size = np.sqrt(np.mean(head[rows] ** 2))
            filled[query] *= np.sqrt(np.mean(full[query][rows] ** 2)) / size if size > 0 else 0.0
            filled[query][rows] = full[query][rows]
        found[replace(method, kind="cascade")] = alone
        found[replace(method, kind="cascade-filled")] = filled
    return found


def compare(problem: Problem, truth: Truth, scores: dict[Method, Scores], *, every_damping: bool = False) -> list[Line]:
    """Return one line per family (``every_damping``: per method), best first on the choosing queries, one model."""
    chosen: dict[str, tuple[float, Method]] = {}
    for method, value in scores.items():
        lds, name = _one_model(value, truth, problem.choosing), method.key if every_damping else method.family
        if lds > chosen.get(name, (-np.inf, method))[0]:
            chosen[name] = (lds, method)
    lines = []
    for lds, method in sorted(chosen.values(), key=lambda item: -item[0]):
        part = scores[method][:, list(problem.reporting)]
        reporting = truth.of_queries(problem.reporting)
        singles = [_interval(linear_datamodelling_score(one, reporting)) for one in part]
        one = tuple(np.mean(singles, axis=0))
        mean = _interval(linear_datamodelling_score(averaged(part), reporting))
        lines.append(Line(method, lds, (one[0], one[1], one[2]), mean))
    return lines


def averaged(scores: Scores) -> NDArray[np.float64]:
    """Return the mean over the models (n_queries, n_train), by the engine's rule."""
    return np.stack([average_scores(list(query.astype(np.float32))) for query in scores.swapaxes(0, 1)]).astype(float)


def markdown(lines: Sequence[Line]) -> Iterator[str]:
    """Yield the table, line by line."""
    yield "| method | damping | choosing, one model | one model | mean of models |"
    yield "|---|---|---|---|---|"
    for line in lines:
        damping = f"{line.method.damping:g}" if line.method.damping else ""
        one, mean = (f"{value:.3f} [{low:.3f}, {high:.3f}]" for value, low, high in (line.one, line.mean))
        yield f"| {line.method.family} | {damping} | {line.choosing:.3f} | {one} | {mean} |"


def _one_model(scores: Scores, truth: Truth, queries: Sequence[int]) -> float:
    part = truth.of_queries(queries)
    values = [linear_datamodelling_score(one, part, resamples=0).lds for one in scores[:, list(queries)]]
    return float(np.mean(values))


def _interval(result: Lds) -> tuple[float, float, float]:
    return result.lds, result.low, result.high


def _tell(report: Report | None, fraction: float, note: str) -> None:
    if report is not None:
        report(fraction, note)
