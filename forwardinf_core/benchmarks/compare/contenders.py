"""Who is compared, one interface: prepare once, then score queries; self-influence where there is such a thing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from forwardinf_core.audits.methods import DEFAULT_DAMPING
from forwardinf_core.benchmarks.compare.scene import Scene
from forwardinf_core.influence.curvature.base import Curvature
from forwardinf_core.influence.curvature.fitting import fitted
from forwardinf_core.influence.curvature.subspace import fit_blended
from forwardinf_core.influence.head import FEATURES, HeadFisherFit, HeadNetwork
from forwardinf_core.influence.network import FullNetwork, Network, TensorRows
from forwardinf_core.influence.objective import Batch, Classification
from forwardinf_core.influence.released import released_update
from forwardinf_core.influence.scoring import score_rows
from forwardinf_core.influence.split import Split, split
from forwardinf_core.influence.step import take_steps
from forwardinf_core.influence.update import StepOptions
from forwardinf_core.models.baseline import Baseline
from forwardinf_core.verification.estimates import head_estimates, residuals
from forwardinf_core.verification.retraining import Examples

BATCH = 100
RISE = 0.01
RANK = 2_048


class Contender(Protocol):
    """Scores are positive where a row helps."""

    def prepare(self, scene: Scene, model: int) -> None:
        """Do everything that comes before the first query; nothing of it was done before."""
        ...

    def scores(self, queries: Tensor, labels: Tensor) -> Tensor:
        """Return (n_queries, n_rows)."""
        ...

    def own_influence(self) -> Tensor | None:
        """Return each row's influence on itself (n_rows,), higher = more suspicious; None where there is none."""
        ...


@dataclass
class HeadStep:
    """Our ``head``: one mirrored step of the last layer through its exact Fisher, on cached features."""

    _kept: dict[str, object] = field(default_factory=dict)

    def prepare(self, scene: Scene, model: int) -> None:
        self.parts = _parts(scene, model, [Baseline.HEAD])
        found = through(self.parts, {"x": scene.rows, "label": scene.labels})
        (self.entry,) = self.parts.tail.inputs
        self.network = HeadNetwork.of_tail(self.parts.tail, Baseline.HEAD)
        self.batch = {FEATURES: found[self.entry], "label": scene.labels}
        self.curvature = fitted(HeadFisherFit(self.network), TensorRows(self.batch), BATCH)
        self.base = self.network.outputs({}, self.batch)

    def scores(self, queries: Tensor, labels: Tensor) -> Tensor:
        asked = through(self.parts, {"x": queries, "label": labels})
        batches = singles({FEATURES: asked[self.entry], "label": labels})
        return _stepped(self.network, self.batch, batches, self.curvature, "fisher", self.base)

    def own_influence(self) -> Tensor:
        """Return g_iᵀ (F + λI)⁻¹ g_i of the head."""
        inputs, residual = self.network.inputs(self.batch).double(), self.network.residuals(self.batch).double()
        matrix = self.curvature.matrix.double()
        matrix.diagonal().add_(DEFAULT_DAMPING["fisher"] * self.curvature.mean_squared_norm)
        factor = torch.linalg.cholesky(matrix)
        parts = []
        for start in range(0, len(inputs), 500):
            rows = (residual[start : start + 500].unsqueeze(2) * inputs[start : start + 500].unsqueeze(1)).flatten(1)
            parts.append(torch.linalg.solve_triangular(factor, rows.T, upper=False).square().sum(0))
        return torch.cat(parts)


@dataclass
class TailStep:
    """Our ``tail``, the app's default: last block and head, EK-FAC with its strongest coordinates taken densely."""

    def prepare(self, scene: Scene, model: int) -> None:
        self.parts = _parts(scene, model, Baseline.TAIL)
        self.batch = through(self.parts, {"x": scene.rows, "label": scene.labels})
        self.curvature = fit_blended(self.parts.tail, TensorRows(self.batch), k=RANK, batch_size=BATCH)

    def scores(self, queries: Tensor, labels: Tensor) -> Tensor:
        batches = singles(through(self.parts, {"x": queries, "label": labels}))
        return _stepped(self.parts.tail, self.batch, batches, self.curvature, "subspace")

    def own_influence(self) -> None:
        return None


@dataclass
class Released:
    """The paper's released recipe: one Adam step in training mode, change without its sign."""

    def prepare(self, scene: Scene, model: int) -> None:
        self.network = FullNetwork(scene.model(model), Classification())
        self.batch = {"x": scene.rows, "label": scene.labels}

    def scores(self, queries: Tensor, labels: Tensor) -> Tensor:
        updates = [released_update(self.network, one) for one in singles({"x": queries, "label": labels})]
        return score_rows(self.network, TensorRows(self.batch), updates, None, batch_size=BATCH, form="difference").T

    def own_influence(self) -> None:
        return None


@dataclass
class OnHead:
    """A baseline in closed form on the last layer: ``name`` as in ``verification.estimates``."""

    name: str

    def prepare(self, scene: Scene, model: int) -> None:
        module = scene.model(model)
        self.body = _body(module)
        self.rows = Examples(self.body(scene.rows), scene.labels)
        self.weights = torch.cat([module.head.weight, module.head.bias.unsqueeze(1)], 1).detach().double()

    def scores(self, queries: Tensor, labels: Tensor) -> Tensor:
        found = head_estimates(self.rows, Examples(self.body(queries), labels), self.weights)
        return torch.from_numpy(found[self.name])

    @cached_property
    def _inputs(self) -> Tensor:
        return F.pad(self.rows.inputs.double(), (0, 1), value=1.0)

    def own_influence(self) -> Tensor | None:
        """Return the row's own loss, or the squared norm of its gradient; nothing for the others."""
        logits = self._inputs @ self.weights.T
        if self.name == "loss":
            return F.cross_entropy(logits, self.rows.labels, reduction="none")
        if self.name == "gradient-dot":
            return residuals(logits, self.rows.labels).square().sum(1) * self._inputs.square().sum(1)
        return None


OURS: dict[str, Callable[[], Contender]] = {"head": HeadStep, "tail": TailStep}
BASELINES: dict[str, Callable[[], Contender]] = {
    "forward-inf as released": Released,
    "gradient dot, head": lambda: OnHead("gradient-dot"),
    "gradient cosine, head": lambda: OnHead("gradient-cosine"),
    "feature similarity, same label": lambda: OnHead("feature-similarity"),
    "loss": lambda: OnHead("loss"),
    "random": lambda: OnHead("random"),
}


def singles(batch: Batch) -> list[Batch]:
    """Return each row as a batch of its own."""
    return [{name: value[i : i + 1] for name, value in batch.items()} for i in range(len(batch["label"]))]


@torch.no_grad()
def through(parts: Split, batch: Batch) -> Batch:
    """Return a batch's activations at the cut, with its labels."""
    n_rows = len(batch["label"])
    kept = [
        parts.trunk({name: value[start : start + BATCH] for name, value in batch.items()})
        for start in range(0, n_rows, BATCH)
    ]
    return {name: torch.cat([one[name] for one in kept]) for name in kept[0]}


def _parts(scene: Scene, model: int, moved: tuple[str, ...] | list[str]) -> Split:
    return split(scene.model(model), Classification(), {"x": scene.rows[:2], "label": scene.labels[:2]}, list(moved))


def _stepped(
    network: Network, rows: Batch, queries: list[Batch], curvature: Curvature, kind: str, base: Tensor | None = None
) -> Tensor:
    options = StepOptions(method="curvature", rise=RISE, damping=DEFAULT_DAMPING[kind])
    updates = take_steps(network, queries, options, curvature)
    return score_rows(network, TensorRows(rows), updates, base, batch_size=BATCH).T


def _body(module: Baseline) -> Callable[[Tensor], Tensor]:
    """Return what turns images into the features that the head reads."""

    @torch.inference_mode()
    def features(images: Tensor) -> Tensor:
        parts = []
        for start in range(0, len(images), BATCH):
            x = module.block3(module.block2(module.block1(module.stem(images[start : start + BATCH]))))
            parts.append(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return torch.cat(parts).clone()

    return features
