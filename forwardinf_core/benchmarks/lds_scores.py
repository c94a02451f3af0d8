r"""Scores of many methods on one trained model and one LDS problem, for ``lds_table``.

A method is either a mirrored step as the engine takes it (step, then forward passes), or the limit of a short step,
g_i · δ, from stored row gradients: the same ranking as a step of vanishing length, at a cost that allows a grid over
curvatures and dampings.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from forwardinf_core.benchmarks.lds_truth import Problem
from forwardinf_core.errors import ModelError
from forwardinf_core.influence.curvature.base import Curvature
from forwardinf_core.influence.curvature.conjugate_gradient import ConjugateGradient
from forwardinf_core.influence.curvature.diagonal import DiagonalFit
from forwardinf_core.influence.curvature.ekfac import EkfacCurvature, fit_ekfac
from forwardinf_core.influence.curvature.exact import DualCurvature, DualFit
from forwardinf_core.influence.curvature.fitting import fitted
from forwardinf_core.influence.curvature.subspace import SubspaceFit, fit_blended
from forwardinf_core.influence.graph import GraphNetwork, whole_graph
from forwardinf_core.influence.network import FullNetwork, Parameters, TensorRows
from forwardinf_core.influence.objective import Batch, Classification
from forwardinf_core.influence.released import released_update
from forwardinf_core.influence.scoring import score_rows
from forwardinf_core.influence.split import split
from forwardinf_core.influence.step import Adam, query_gradient, take_steps
from forwardinf_core.influence.update import StepOptions
from forwardinf_core.models.baseline import Baseline

Scope = Literal["head", "tail", "tail2", "full"]
Kind = Literal[
    "gradient",
    "adam",
    "released",
    "diagonal",
    "ekfac",
    "subspace",
    "blended",  # the tail's default
    "conjugate-gradient",
    "exact",
    "cascade",  # of two others: lds_table.cascades
    "cascade-filled",
]

MOVED: dict[Scope, tuple[str, ...]] = {
    "head": (Baseline.HEAD,),
    "tail": Baseline.TAIL,
    "tail2": ("block2", *Baseline.TAIL),  # would a longer tail be worth its cost?
}
ITERATIONS = (3, 5, 10, 20)  # of conjugate gradients
BATCH = 100


@dataclass(frozen=True)
class Method:
    """One line of the table. ``size``: coordinates of a subspace, iterations of conjugate gradients.

    ``rise`` None is the limit of a short step; Adam with ``steps`` > 1 and the released recipe have none.
    """

    kind: Kind
    scope: Scope
    damping: float = 0.0
    size: int = 0
    preconditioned: bool = False  # conjugate gradients, by EK-FAC
    steps: int = 1
    rise: float | None = None

    @property
    def family(self) -> str:
        """Name without the options that are chosen (damping)."""
        size = f"-{self.size}" if self.size else ""
        preconditioned = "-preconditioned" if self.preconditioned else ""
        steps = f"-K{self.steps}" if self.kind == "adam" else ""
        rise = "" if self.rise is None else f"-rise{self.rise:g}"
        return f"{self.scope}-{self.kind}{size}{preconditioned}{steps}{rise}"

    @property
    def key(self) -> str:
        """Name of its scores in the store."""
        return f"{self.family}-damping{self.damping:g}" if self.damping else self.family


@dataclass
class Scene:
    """One model, one scope, and what has been fitted on it so far."""

    problem: Problem
    model: Baseline
    scope: Scope
    _fitted: dict[str, Curvature] = field(default_factory=dict)
    _solved: dict[tuple[bool, float], dict[int, Tensor]] = field(default_factory=dict)

    @cached_property
    def images(self) -> Batch:
        rows = self.problem.recipe.rows
        return {"x": self.problem.recipe.normalise(rows.inputs), "label": rows.labels}

    @cached_property
    def image_queries(self) -> list[Batch]:
        queries = self.problem.queries
        pixels = self.problem.recipe.normalise(queries.inputs)
        return [{"x": pixels[i : i + 1], "label": queries.labels[i : i + 1]} for i in range(len(pixels))]

    @cached_property
    def _parts(self) -> tuple[GraphNetwork, TensorRows, list[Batch]]:
        """Network, rows and queries of the scope; behind a trunk these are its activations."""
        example = {name: value[:2] for name, value in self.images.items()}
        if self.scope == "full":
            return whole_graph(self.model, Classification(), example), TensorRows(self.images), self.image_queries
        parts = split(self.model, Classification(), example, MOVED[self.scope])
        n_rows = len(self.images["label"])
        batches = [TensorRows(self.images).batch(start, start + BATCH) for start in range(0, n_rows, BATCH)]
        kept = [parts.trunk(batch) for batch in batches]
        activations = {name: torch.cat([one[name] for one in kept]) for name in kept[0]}
        return parts.tail, TensorRows(activations), [parts.trunk(query) for query in self.image_queries]

    @property
    def network(self) -> GraphNetwork:
        return self._parts[0]

    @property
    def rows(self) -> TensorRows:
        return self._parts[1]

    @property
    def queries(self) -> list[Batch]:
        return self._parts[2]

    @cached_property
    def exact(self) -> DualCurvature:
        """All row gradients, and the exact inverse made of them."""
        return fitted(DualFit(self.network, len(self.rows)), self.rows, BATCH)

    @cached_property
    def ekfac(self) -> EkfacCurvature:
        return fit_ekfac(self.network, self.rows, batch_size=BATCH)

    def curvature(self, method: Method) -> Curvature:
        """Return the method's curvature, fitted once per scene."""
        if method.kind == "exact":
            return self.exact
        if method.kind == "ekfac":
            return self.ekfac
        name = f"{method.kind}-{method.size}"
        if name not in self._fitted:
            if method.kind == "subspace":
                fit = SubspaceFit(self.network, self.ekfac, k=method.size)
                self._fitted[name] = fitted(fit, self.rows, BATCH)
            elif method.kind == "blended":
                self._fitted[name] = fit_blended(self.network, self.rows, k=method.size, batch_size=BATCH)
            else:
                self._fitted[name] = fitted(DiagonalFit(self.network), self.rows, BATCH)
        return self._fitted[name]

    def scores(self, method: Method) -> Tensor:
        """Return scores (n_queries, n_train), positive = helped."""
        if method.kind == "released":
            return self._released()
        if method.rise is None:
            return self._of_short_step(method)
        optimiser: Literal["sgd", "adam", "curvature"] = "curvature"
        if method.kind in ("gradient", "adam"):
            optimiser = "adam" if method.kind == "adam" else "sgd"
        options = StepOptions(method=optimiser, steps=method.steps, rise=method.rise, damping=method.damping)
        curvature = self.curvature(method) if optimiser == "curvature" else None
        updates = take_steps(self.network, self.queries, options, curvature)
        return score_rows(self.network, self.rows, updates, None, batch_size=BATCH).T

    def _released(self) -> Tensor:
        """Return the released recipe's scores; 0 for a query so well fitted that it refuses, which LDS leaves out."""
        network = FullNetwork(self.model, Classification())
        scores = torch.zeros(len(self.image_queries), len(self.images["label"]))
        updates = {}
        for index, query in enumerate(self.image_queries):
            with suppress(ModelError):
                updates[index] = released_update(network, query)
        found = score_rows(
            network, TensorRows(self.images), list(updates.values()), None, batch_size=BATCH, form="difference"
        )
        scores[list(updates)] = found.T
        return scores

    def _of_short_step(self, method: Method) -> Tensor:
        gradients = [query_gradient(self.network, query)[1] for query in self.queries]
        if method.kind == "adam":
            gradients = [Adam().direction(gradient) for gradient in gradients]
        elif method.kind == "conjugate-gradient":
            return self._by_iteration(gradients, method)[method.size]
        elif method.kind != "gradient":
            gradients = self.curvature(method).solve(gradients, damping=method.damping)
        return self.exact.layout.flatten(gradients) @ self.exact.gradients.T

    def _by_iteration(self, gradients: list[Parameters], method: Method) -> dict[int, Tensor]:
        """Return the scores after each of ITERATIONS, all from one run."""
        key = (method.preconditioned, method.damping)
        if key not in self._solved:
            solver = StoredConjugateGradient(self, preconditioned=method.preconditioned)
            solutions = enumerate(solver.iterate(gradients, damping=method.damping), start=1)
            layout, stored = self.exact.layout, self.exact.gradients
            kept = {count: layout.flatten(found) @ stored.T for count, found in solutions if count in ITERATIONS}
            self._solved[key] = kept
        return self._solved[key]


class StoredConjugateGradient(ConjugateGradient):
    """Conjugate gradients whose Fisher products come from stored row gradients: the same numbers, sooner here."""

    def __init__(self, scene: Scene, *, preconditioned: bool) -> None:
        super().__init__(
            scene.network,
            scene.rows,
            mean_squared_norm=scene.exact.mean_squared_norm,
            iterations=max(ITERATIONS),
            preconditioner=scene.ekfac if preconditioned else None,
        )
        self.stored = scene.exact.gradients  # (n, p)

    def fisher_products(self, directions: Tensor) -> Tensor:
        return (directions @ self.stored.T) @ self.stored / len(self.stored)


def scopes_of(methods: Iterable[Method]) -> list[Scope]:
    """Return the scopes in the order in which they first appear."""
    return list(dict.fromkeys(method.scope for method in methods))
