r"""The last linear layer on cached features: outputs = φ Wᵀ + b, with cross-entropy in closed form.

With r = p − y the gradient of a row's loss in its logits, its gradient in (W, b) is r ⊗ [φ, 1], so gradients, products
with curvature matrices and the scores of many queries are matrix products of the features, and nothing of the size of
rows × parameters is ever stored.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from forwardinf_core.errors import ModelError
from forwardinf_core.influence.graph import GraphNetwork
from forwardinf_core.influence.network import Parameters, slices
from forwardinf_core.influence.objective import Batch, Objective

FEATURES = "features"
FALLEN, OVERFLOWING = -0.5, 1e30  # between them, log(1 + x) keeps its digits and nothing overflowed in float32
BLOCK_NUMBERS = 1 << 18  # numbers of one block of logit changes: with its few temporaries it stays in the cache
GRADIENT_NUMBERS = 1 << 23  # numbers of one block of row gradients while fitting, 32 MB
MOST_PARAMETERS = 6_500  # of a dense curvature: 170 MB in float32, seconds to factor
CHEAP_IN_FLOAT64 = 2_600  # parameters up to which a factor in float64 takes less than a second
FLOAT32_DAMPING = 1e-4  # from here on a float32 factor solves to 1e-3 or better
FISHER, HESSIAN = "fisher", "hessian"
_ROWS, _SUM, _NORM, _KIND, _NAME = "rows", "sum", "mean_squared_norm", "kind|", "name|"


@dataclass(frozen=True, slots=True)
class HeadNames:
    """The user's names of the layer's parameters, and the layer as one matrix [W, b] of shape (c, d + 1)."""

    weight: str
    bias: str | None

    @classmethod
    def of(cls, parameters: Iterable[str]) -> HeadNames:
        """Find which name is which; the bias may be missing."""
        names = list(parameters)
        biases = [name for name in names if name.rpartition(".")[2] == "bias"]
        (weight,) = set(names) - set(biases)
        return cls(weight, biases[0] if biases else None)

    def matrix(self, parameters: Parameters) -> Tensor:
        """Return [W, b], or W (c, d) for a layer without a bias."""
        weight = parameters[self.weight]
        return weight if self.bias is None else torch.cat([weight, parameters[self.bias].unsqueeze(1)], 1)

    def parameters(self, matrix: Tensor) -> Parameters:
        """Return the parameters of which this is the matrix."""
        if self.bias is None:
            return {self.weight: matrix}
        return {self.weight: matrix[:, :-1], self.bias: matrix[:, -1]}


class HeadNetwork:
    """The head as a network: batches hold ``features`` (n, d) and what the losses read; outputs are (n, c)."""

    def __init__(self, objective: Objective, parameters: Parameters) -> None:
        """``parameters``: the weight (c, d) and, where there is one, the bias (c,), by the user's names."""
        self.objective = objective
        self.names = HeadNames.of(parameters)
        self.parameters: Parameters = {name: value.detach() for name, value in parameters.items()}

    @classmethod
    def of_tail(cls, tail: GraphNetwork, name: str) -> HeadNetwork:
        """Return the head of a network that was cut before ``name``, its last linear layer (``find_head``)."""
        if tail.parameters.keys() > {f"{name}.weight", f"{name}.bias"} or f"{name}.weight" not in tail.parameters:
            raise ModelError(
                f"The head {name!r} is not one linear layer.", hint=f"It holds {', '.join(tail.parameters)}."
            )
        return cls(tail.objective, tail.parameters)

    def outputs(self, parameters: Parameters, batch: Batch) -> Tensor:
        """Return outputs (n, c), with ``parameters`` in place of the trained ones."""
        values = self.parameters | parameters
        bias = None if self.names.bias is None else values[self.names.bias]
        return F.linear(batch[FEATURES], values[self.names.weight], bias)

    def inputs(self, batch: Batch) -> Tensor:
        """Return what the matrix [W, b] is applied to: [φ, 1] of shape (n, d + 1), or φ without a bias."""
        return batch[FEATURES] if self.names.bias is None else F.pad(batch[FEATURES], (0, 1), value=1.0)

    def residuals(self, batch: Batch) -> Tensor:
        """Return p − y, the gradient of each row's loss in its outputs, (n, c)."""
        return self.objective.output_gradients(self.outputs({}, batch), batch)

    def output_change(self, changes: Parameters, batch: Batch) -> Tensor:
        """Return outputs(parameters + changes) − outputs(parameters), (n, c): linear, so without a difference."""
        bias = changes.get(self.names.bias) if self.names.bias else None
        return F.linear(batch[FEATURES], changes[self.names.weight], bias)

    def row_gradients(self, batch: Batch) -> Tensor:
        """Return the gradient of each row's loss, (n, c · (d + 1)): its residuals ⊗ inputs, row by row of [W, b]."""
        return outer(self.residuals(batch), self.inputs(batch))


def outer(left: Tensor, right: Tensor) -> Tensor:
    """Return the outer product of the rows of (n, c) and (n, d) as (n, c · d)."""
    return (left.unsqueeze(2) * right.unsqueeze(1)).flatten(1)


def score_many(
    features: Tensor,
    base_logits: Tensor,
    labels: Tensor,
    weight_changes: Tensor,
    bias_changes: Tensor | None = None,
) -> Tensor:
    r"""Return how the loss of each row changes under each of m changes of the head, (n, m), without cancellation.

    With changes in the ascent sense (they raise the query's loss) positive means that the row helped the query.
    log Σ_j p_j exp(Δ_j − Δ_y) with p the softmax of the base logits, as ``Classification.loss_changes``.

    Shapes: features (n, d), base_logits (n, c), labels (n,), weight_changes (m, c, d), bias_changes (m, c). Features
    and logits may be memory-mapped. Cost: one product (n, d) @ (d, m c) and about as much again on (n, m, c); memory
    beyond the result is a few blocks of BLOCK_NUMBERS.
    """
    m, c, d = weight_changes.shape
    directions = weight_changes.reshape(m * c, d)
    offsets = None if bias_changes is None else bias_changes.reshape(m * c)
    scores = base_logits.new_empty(len(features), m)
    with torch.inference_mode():
        for start, stop in slices(len(features), max(1, BLOCK_NUMBERS // (m * c))):
            change = F.linear(features[start:stop], directions, offsets).view(-1, m, c)
            scores[start:stop] = _loss_changes(base_logits[start:stop], change, labels[start:stop])
    return scores


def _loss_changes(logits: Tensor, change: Tensor, labels: Tensor) -> Tensor:
    """Return loss changes (n, m) of logit changes (n, m, c); rows that fell far or moved wildly take a slower way."""
    n, m, _ = change.shape
    change -= change.gather(2, labels.view(n, 1, 1).expand(n, m, 1))
    grown = torch.bmm(change.expm1(), logits.softmax(1).unsqueeze(2)).squeeze(2)  # Σ_j p_j (exp(Δ_j − Δ_y) − 1)
    scores = grown.log1p()
    coarse = ~((grown > FALLEN) & (grown < OVERFLOWING))
    if coarse.any():
        row, query = coarse.nonzero(as_tuple=True)
        scores[row, query] = torch.logsumexp(logits[row].log_softmax(1) + change[row, query], 1)
    return scores


class HeadFisher:
    r"""The exact Fisher (or Hessian) of the head as a dense matrix over [W, b], row by row.

    All eigenvalues of F + λI lie between λ and tr F + λ, so its condition is at most 1 + 1 / damping: a Cholesky
    factor in float32 solves to about 1e-7 / damping. Float64 is taken where that is too coarse, and for a Hessian.
    """

    def __init__(self, kind: str, names: HeadNames, matrix: Tensor, mean_squared_norm: float) -> None:
        self.kind = kind
        self.names = names
        self.matrix = matrix
        self.mean_squared_norm = mean_squared_norm
        self._factor: tuple[float, Tensor] | None = None  # of the last damping

    def solve(self, gradients: list[Parameters], *, damping: float) -> list[Parameters]:
        """Return (F + λI)⁻¹ g for each gradient. A new damping costs one factorisation, the next query two products."""
        if self._factor is None or self._factor[0] != damping:
            self._factor = damping, self._cholesky(damping)
        factor = self._factor[1]
        sides = [self.names.matrix(gradient) for gradient in gradients]
        solved = torch.cholesky_solve(torch.stack([side.flatten() for side in sides], 1).to(factor), factor)
        return [self.names.parameters(one.view_as(side).to(side)) for one, side in zip(solved.T, sides, strict=True)]

    def tensors(self) -> Parameters:
        """Return what must be stored; the names of the parameters and the kind are names of tensors."""
        empty = torch.zeros(0)
        names = {f"{_NAME}{name}": empty.clone() for name in (self.names.weight, self.names.bias) if name}
        norm = torch.tensor(self.mean_squared_norm, dtype=torch.float64)
        return {f"{_KIND}{self.kind}": self.matrix, _NORM: norm} | names

    @classmethod
    def from_tensors(cls, tensors: Parameters) -> HeadFisher:
        """Build it again from what ``tensors`` returned."""
        names = HeadNames.of(name.removeprefix(_NAME) for name in tensors if name.startswith(_NAME))
        ((kind, matrix),) = [
            (name.removeprefix(_KIND), value) for name, value in tensors.items() if name.startswith(_KIND)
        ]
        return cls(kind, names, matrix, float(tensors[_NORM]))

    def _cholesky(self, damping: float) -> Tensor:
        is_tame = self.kind == FISHER and damping >= FLOAT32_DAMPING and len(self.matrix) > CHEAP_IN_FLOAT64
        damped = self.matrix.to(torch.float32 if is_tame else torch.float64, copy=True)
        damped.diagonal().add_(damping * self.mean_squared_norm)
        factor: Tensor
        factor, failed = torch.linalg.cholesky_ex(damped)
        if failed:
            raise ModelError(
                f"The head's curvature cannot be inverted with damping {damping:g}.", hint="Use a larger one."
            )
        return factor


class HeadFisherFit:
    r"""One read of the rows that fits the head's curvature exactly, for cross-entropy.

    ``fisher``: (1/n) Σ r rᵀ ⊗ φφᵀ with r = p − y. ``hessian``: (1/n) Σ (diag p − p pᵀ) ⊗ φφᵀ, and ``l2`` added for the
    weights, not for the bias: the Hessian of the mean loss with a penalty of l2/2 ‖W‖², where the model is convex.
    Cost: n k² / 2 multiply-adds with k = c (d + 1), in the dtype of the head.
    """

    def __init__(self, network: HeadNetwork, *, kind: str = FISHER, l2: float = 0.0) -> None:
        assert kind in (FISHER, HESSIAN), kind
        weight = network.parameters[network.names.weight]
        self.network = network
        self.kind = kind
        self.l2 = l2
        self.n_inputs = weight.shape[1] + (network.names.bias is not None)
        self.size = weight.shape[0] * self.n_inputs
        if not fits_dense(network):
            raise ModelError(
                f"The head has {self.size:,} parameters, too many for an exact matrix (at most {MOST_PARAMETERS:,}).",
                hint="Use conjugate gradients on the head.",
            )

    def start(self) -> Parameters:
        """Return the empty sums."""
        matrix = torch.zeros(self.size, self.size, dtype=self.network.parameters[self.network.names.weight].dtype)
        return {_ROWS: torch.zeros((), dtype=torch.int64), _SUM: matrix, _NORM: torch.zeros((), dtype=torch.float64)}

    def accumulate(self, state: Parameters, batch: Batch) -> Parameters:
        """Add a batch to the sums, in place: they are large. Only blocks on and above the diagonal are filled."""
        network, width = self.network, self.n_inputs
        for start, stop in slices(len(batch[FEATURES]), max(1, GRADIENT_NUMBERS // self.size)):
            rows = {name: value[start:stop] for name, value in batch.items()}
            inputs, residuals = network.inputs(rows), network.residuals(rows)
            state[_ROWS] += len(inputs)
            state[_NORM] += (residuals.square().sum(1).double() * inputs.square().sum(1)).sum()
            probabilities = network.outputs({}, rows).softmax(1)
            factors = outer(residuals if self.kind == FISHER else probabilities, inputs)
            for first in range(0, self.size, width):
                block = state[_SUM][first : first + width, first:]
                block.addmm_(
                    factors[:, first : first + width].T, factors[:, first:], alpha=1 if self.kind == FISHER else -1
                )
                if self.kind == HESSIAN:
                    block[:, :width].addmm_(factors[:, first : first + width].T, inputs)
        return state

    def finish(self, state: Parameters) -> HeadFisher:
        """Return the curvature; the sums are left as they are."""
        n_rows, width = int(state[_ROWS]), self.n_inputs
        matrix = state[_SUM] / n_rows
        for first in range(0, self.size, width):
            matrix[first + width :, first : first + width] = matrix[first : first + width, first + width :].T
        if self.l2:
            penalised = matrix.new_ones(self.size // width, width)
            penalised[:, -1] = float(self.network.names.bias is None)
            matrix.diagonal().add_(penalised.flatten(), alpha=self.l2)
        return HeadFisher(self.kind, self.network.names, matrix, float(state[_NORM]) / n_rows)


def fits_dense(network: HeadNetwork) -> bool:
    """Say whether the head is small enough for ``HeadFisher``."""
    return sum(value.numel() for value in network.parameters.values()) <= MOST_PARAMETERS
