r"""EK-FAC: the Fisher as a diagonal in a Kronecker-factored eigenbasis (George et al. 2018, arXiv 1806.03884).

For a layer with row gradients g_i = Σ_t b_it a_itᵀ, K-FAC takes F ≈ E[b bᵀ] ⊗ E[a aᵀ]; EK-FAC keeps its eigenvectors
Q_B, Q_A and corrects the eigenvalues with true row gradients, summed over positions: Λ_kl = E_i[(Q_Bᵀ g_i Q_A)²_kl].
Labels are the true ones, so this is the best diagonal of the *empirical* Fisher in that basis.

Linear, Conv2d, matrix products with a weight and Embedding get bases (an axis that is one-hot or longer than
``LONGEST_AXIS`` keeps its own axes); normalisation layers, lone biases, added or multiplied parameters and grouped
convolutions get the exact diagonal; anything else is refused by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from forwardinf_core.influence.curvature.fitting import fitted, gradient_sizes, sampled_rows
from forwardinf_core.influence.curvature.layers import (
    Layer,
    Side,
    bases_of,
    covariances,
    layers_of,
    nodes_of,
    squared_row_gradients,
)
from forwardinf_core.influence.curvature.taps import check_rows_are_separate, record
from forwardinf_core.influence.graph import GraphNetwork
from forwardinf_core.influence.network import Parameters, Rows
from forwardinf_core.influence.objective import Batch

LONGEST_AXIS = 5_000  # the eigenvectors of a longer axis take minutes and hundreds of MiB
SAMPLE_ROWS = 2_000  # drawn by size, a quarter of 500 digits or 1,000 CIFAR-10 rows did as well as all of them
ROWS = "rows"
_LEFT, _RIGHT, _EIGENVALUES = "left", "right", "eigenvalues"
_AXES = (_LEFT, _RIGHT)


@dataclass(frozen=True)
class LayerBasis:
    """The eigenvectors of one layer, in columns; None where an axis is kept as it is."""

    weight: str
    bias: str | None
    left: Tensor | None
    right: Tensor | None

    @property
    def sides(self) -> tuple[Side, Side]:
        return Side(self.left), Side(self.right)

    def rotate(self, gradients: Parameters) -> Tensor:
        """Return Q_Bᵀ G Q_A of one gradient, flat."""
        value = gradients[self.weight]
        matrix = value.reshape(value.shape[0] if value.ndim > 1 else 1, -1)
        if self.bias is not None:
            matrix = torch.cat([matrix, gradients[self.bias].unsqueeze(1)], dim=1)
        left, right = self.sides
        return right.of(left.of(matrix.T).T).flatten()

    def restore(self, vector: Tensor, like: Parameters) -> Parameters:
        """Return the inverse of ``rotate``, in the shapes of ``like``."""
        value = like[self.weight]
        matrix = vector.reshape(value.shape[0] if value.ndim > 1 else 1, -1)
        matrix = matrix if self.left is None else self.left @ matrix
        matrix = matrix if self.right is None else matrix @ self.right.T
        if self.bias is None:
            return {self.weight: matrix.reshape(value.shape)}
        return {self.weight: matrix[:, :-1].reshape(value.shape), self.bias: matrix[:, -1].clone()}


class EkfacCurvature:
    """A diagonal in a Kronecker-factored eigenbasis. A solve costs a few small matrix products."""

    kind = "ekfac"

    def __init__(self, bases: Sequence[LayerBasis], eigenvalues: Sequence[Tensor]) -> None:
        """``eigenvalues``: one (rows, columns) for each basis."""
        self.bases = tuple(bases)
        self.eigenvalues = tuple(eigenvalues)
        self.diagonal = torch.cat([value.flatten() for value in eigenvalues])  # (coordinates,)
        self.mean_squared_norm = float(self.diagonal.sum(dtype=torch.float64))  # rotations keep the trace

    def solve(self, gradients: list[Parameters], *, damping: float) -> list[Parameters]:
        damped = self.diagonal + damping * self.mean_squared_norm
        return [self.restore(self.rotate(one) / damped, one) for one in gradients]

    def rotate(self, gradients: Parameters) -> Tensor:
        """Return one gradient in the eigenbasis, (coordinates,)."""
        return torch.cat([basis.rotate(gradients) for basis in self.bases])

    def restore(self, vector: Tensor, like: Parameters) -> Parameters:
        """Return a vector of the eigenbasis as a change of parameters."""
        parts = torch.split(vector, [value.numel() for value in self.eigenvalues])
        restored: Parameters = {}
        for basis, part in zip(self.bases, parts, strict=True):
            restored |= basis.restore(part, like)
        return restored

    def tensors(self) -> Parameters:
        stored: Parameters = {}
        for basis, eigenvalues in zip(self.bases, self.eigenvalues, strict=True):
            parts = {_LEFT: basis.left, _RIGHT: basis.right, _EIGENVALUES: eigenvalues}
            stored |= {
                _key(part, basis.weight, basis.bias): value for part, value in parts.items() if value is not None
            }
        return stored

    @classmethod
    def from_tensors(cls, tensors: Parameters) -> EkfacCurvature:
        found = sorted(name.split("|")[1:] for name in tensors if name.startswith(f"{_EIGENVALUES}|"))
        bases = [
            LayerBasis(weight, bias or None, *(tensors.get(_key(axis, weight, bias)) for axis in _AXES))
            for weight, bias in found
        ]
        return cls(bases, [tensors[_key(_EIGENVALUES, weight, bias)] for weight, bias in found])


class FactorFit:
    """First read: the covariances of inputs and output gradients, and their eigenvectors."""

    def __init__(self, network: GraphNetwork, *, longest_axis: int = LONGEST_AXIS) -> None:
        self.network = network
        self.longest_axis = longest_axis
        self.layers = layers_of(network)
        self.factored = [layer for layer in self.layers if bases_of(layer, longest_axis)]

    def start(self) -> Parameters:
        state = {ROWS: torch.zeros((), dtype=torch.float64)}
        for layer in self.factored:
            weight = self.network.parameters[layer.weight]
            for axis in bases_of(layer, self.longest_axis):
                state[_key(_AXES[axis], layer.weight, layer.bias)] = weight.new_zeros([layer.shape[axis]] * 2)
        return state

    def accumulate(self, state: Parameters, batch: Batch) -> Parameters:
        nodes = nodes_of(self.layers)
        if not state[ROWS]:
            check_rows_are_separate(self.network, batch, nodes)
        recording = record(self.network, batch, nodes_of(self.factored))
        sums = {ROWS: state[ROWS] + recording.weight}
        for layer in self.factored:
            for axis, product in covariances(layer, recording, self.longest_axis).items():
                key = _key(_AXES[axis], layer.weight, layer.bias)
                sums[key] = state[key] + product
        return sums

    def finish(self, state: Parameters) -> list[LayerBasis]:
        vectors = {key: _eigenvectors(value / value.diagonal().mean()) for key, value in state.items() if key != ROWS}
        return [
            LayerBasis(layer.weight, layer.bias, *(vectors.get(_key(axis, layer.weight, layer.bias)) for axis in _AXES))
            for layer in self.layers
        ]


def _eigenvectors(covariance: Tensor) -> Tensor:
    """Return the eigenvectors in columns. A large matrix with many zero rows can need double precision."""
    try:
        found: Tensor = torch.linalg.eigh(covariance)[1]
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]  # zero rows: outputs that no loss reads
        found = torch.linalg.eigh(covariance.double())[1].to(covariance.dtype)
    return found


class EigenvalueFit:
    """Second read: the mean squares of the true row gradients in the eigenbasis."""

    def __init__(self, network: GraphNetwork, bases: Sequence[LayerBasis]) -> None:
        self.network = network
        self.bases = tuple(bases)
        self.layers = layers_of(network)

    def start(self) -> Parameters:
        state = {ROWS: torch.zeros((), dtype=torch.float64)}
        for layer in self.layers:
            state[_name(layer)] = self.network.parameters[layer.weight].new_zeros(layer.shape)
        return state

    def accumulate(self, state: Parameters, batch: Batch) -> Parameters:
        nodes = nodes_of(self.layers)
        if not state[ROWS]:
            check_rows_are_separate(self.network, batch, nodes)
        recording = record(self.network, batch, nodes)
        sums = {ROWS: state[ROWS] + recording.weight}
        for layer, basis in zip(self.layers, self.bases, strict=True):
            parameter = self.network.parameters[layer.weight]
            sums[_name(layer)] = state[_name(layer)] + squared_row_gradients(layer, parameter, recording, basis.sides)
        return sums

    def finish(self, state: Parameters) -> EkfacCurvature:
        return EkfacCurvature(self.bases, [state[_name(layer)] / state[ROWS] for layer in self.layers])


def fit_ekfac(
    network: GraphNetwork,
    rows: Rows,
    *,
    batch_size: int = 100,
    sample_rows: int = SAMPLE_ROWS,
    seed: int = 0,
) -> EkfacCurvature:
    """Fit in one go. Both reads see about ``sample_rows`` rows, drawn once by the size of their gradients."""
    sample = rows
    if sample_rows < len(rows):
        sample = sampled_rows(rows, gradient_sizes(network, rows, batch_size), sample_rows, seed)
    bases = fitted(FactorFit(network), sample, batch_size)
    return fitted(EigenvalueFit(network, bases), sample, batch_size)


def _key(part: str, weight: str, bias: str | None) -> str:
    return f"{part}|{weight}|{bias or ''}"


def _name(layer: Layer) -> str:
    return _key(_EIGENVALUES, layer.weight, layer.bias)
