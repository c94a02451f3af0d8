r"""EK-FAC with the full Fisher where it matters: dense on the k strongest coordinates, diagonal on the rest.

In EK-FAC's eigenbasis the coordinates with the largest corrected eigenvalues, over all layers together, get the full
empirical Fisher F_k = (1/n) Σ_i φ_i φ_iᵀ of the row gradients' coordinates φ_i, across layers too; the others keep
EK-FAC's diagonal Λ: (F + λI)⁻¹ ≈ (F_k + λI)⁻¹ ⊕ (Λ + λ)⁻¹. With k = all coordinates it is the exact inverse.

``fit_blended`` is the tail's default, for two more reasons of our own measurement (docs/method.md):

*Levelled rows.* Every row's gradient is divided by the root of its size, F = E[g gᵀ / ‖g‖] (size: of the gradient at
the outputs). A row fitted to probability p of its label has a curvature of about 1 − p in the Hessian and (1 − p)² in
the plain empirical Fisher, which a few badly fitted rows, among them wrong labels, then make up almost alone.

*Blended.* The dense block is best where rows are not fitted, EK-FAC's diagonal, less damped, where they are; a mean of
their two steps, each as long as raises the query alike, is near the better one everywhere, for the same fit.
"""

from __future__ import annotations

import torch
from torch import Tensor

from forwardinf_core.errors import ModelError
from forwardinf_core.influence.curvature.ekfac import ROWS, SAMPLE_ROWS, EigenvalueFit, EkfacCurvature, FactorFit
from forwardinf_core.influence.curvature.fitting import LevelledRows, fitted, gradient_sizes, sampled_rows
from forwardinf_core.influence.curvature.layers import layers_of, nodes_of, row_gradients
from forwardinf_core.influence.curvature.taps import check_rows_are_separate, record
from forwardinf_core.influence.graph import GraphNetwork
from forwardinf_core.influence.network import Parameters, Rows
from forwardinf_core.influence.objective import Batch

COORDINATES = 4_096
DENSE_WEIGHT = 0.4  # of the dense step in the blended one
DIAGONAL_SHARE = 1 / 3_000  # of the block's damping, for the blended step's diagonal: 1e-7 beside 3e-4
BLOCK = "block"
_COORDINATES = "coordinates"


class SubspaceCurvature:
    """A dense block and a diagonal in EK-FAC's eigenbasis. The first solve at a damping factors the block, k³/3."""

    kind = "subspace"

    def __init__(self, ekfac: EkfacCurvature, coordinates: Tensor, block: Tensor) -> None:
        self.ekfac = ekfac
        self.coordinates = coordinates  # (k,) ascending positions in the eigenbasis
        self.block = block  # (k, k)
        self.mean_squared_norm = ekfac.mean_squared_norm
        self._factor: tuple[float, Tensor] | None = None

    def solve(self, gradients: list[Parameters], *, damping: float) -> list[Parameters]:
        damping_value = damping * self.mean_squared_norm
        rotated = torch.stack([self.ekfac.rotate(one) for one in gradients], dim=1)  # (coordinates, queries)
        solved = rotated / (self.ekfac.diagonal + damping_value).unsqueeze(1)
        factor = self._cholesky(damping_value)
        strongest = torch.cholesky_solve(rotated[self.coordinates].to(factor), factor)
        solved[self.coordinates] = strongest.to(solved)
        return [self.ekfac.restore(solved[:, column], one) for column, one in enumerate(gradients)]

    def tensors(self) -> Parameters:
        return self.ekfac.tensors() | {_COORDINATES: self.coordinates, BLOCK: self.block}

    @classmethod
    def from_tensors(cls, tensors: Parameters) -> SubspaceCurvature:
        return cls(EkfacCurvature.from_tensors(tensors), tensors[_COORDINATES], tensors[BLOCK])

    def _cholesky(self, damping_value: float) -> Tensor:
        if self._factor is None or self._factor[0] != damping_value:
            # In float64: the block's condition reaches 1 / damping, more than float32 holds.
            damped = self.block.to(torch.float64, copy=True)
            damped.diagonal().add_(damping_value)
            factor, failed = torch.linalg.cholesky_ex(damped)
            if failed:
                raise ModelError(
                    f"The curvature cannot be inverted with a damping of {damping_value:.2g}.",
                    hint="Use a larger relative damping, such as 1e-6.",
                )
            self._factor = damping_value, factor
        return self._factor[1]


class BlendedCurvature:
    """The mean, weighted 2 to 3, of the subspace's step and its EK-FAC's, brought to the same slope along the gradient.

    Homogeneous in the gradient, not linear: for steps, not for preconditioning.
    """

    kind = "subspace"

    def __init__(self, subspace: SubspaceCurvature) -> None:
        self.subspace = subspace
        self.mean_squared_norm = subspace.mean_squared_norm

    def solve(self, gradients: list[Parameters], *, damping: float) -> list[Parameters]:
        dense = self.subspace.solve(gradients, damping=damping)
        diagonal = self.subspace.ekfac.solve(gradients, damping=damping * DIAGONAL_SHARE)
        return [_mean_step(*steps) for steps in zip(gradients, dense, diagonal, strict=True)]

    def tensors(self) -> Parameters:
        return self.subspace.tensors()

    @classmethod
    def from_tensors(cls, tensors: Parameters) -> BlendedCurvature:
        return cls(SubspaceCurvature.from_tensors(tensors))


def _mean_step(gradient: Parameters, first: Parameters, second: Parameters) -> Parameters:
    slopes = [sum(float((gradient[name] * step[name]).sum()) for name in gradient) for step in (first, second)]
    scale = slopes[0] / slopes[1] if slopes[1] > 0 else 0.0
    return {name: DENSE_WEIGHT * first[name] + (1 - DENSE_WEIGHT) * scale * second[name] for name in gradient}


class SubspaceFit:
    """One read: the Gram matrix of the row gradients' strongest coordinates."""

    def __init__(self, network: GraphNetwork, ekfac: EkfacCurvature, *, k: int = COORDINATES) -> None:
        self.network = network
        self.ekfac = ekfac
        self.layers = layers_of(network)
        self.coordinates = ekfac.diagonal.topk(min(k, len(ekfac.diagonal))).indices.sort().values

    def start(self) -> Parameters:
        k = len(self.coordinates)
        return {ROWS: torch.zeros((), dtype=torch.float64), BLOCK: self.ekfac.diagonal.new_zeros(k, k)}

    def accumulate(self, state: Parameters, batch: Batch) -> Parameters:
        projected, weight = self.project(batch, check=not state[ROWS])
        return {ROWS: state[ROWS] + weight, BLOCK: torch.addmm(state[BLOCK], projected.T, projected)}

    def finish(self, state: Parameters) -> SubspaceCurvature:
        """Return the curvature, EK-FAC's eigenvalues scaled to the block's trace on the chosen coordinates.

        That takes out most of what a sample of the rows got wrong about the size of the gradients.
        """
        block = state[BLOCK] / state[ROWS]
        scale = block.trace() / self.ekfac.diagonal[self.coordinates].sum()
        ekfac = EkfacCurvature(self.ekfac.bases, [value * scale for value in self.ekfac.eigenvalues])
        return SubspaceCurvature(ekfac, self.coordinates, block)

    def project(self, batch: Batch, *, check: bool = False) -> tuple[Tensor, Tensor]:
        """Return the chosen coordinates of every row's gradient times the root of its weight, (n, k), and Σ weights."""
        nodes = nodes_of(self.layers)
        if check:
            check_rows_are_separate(self.network, batch, nodes)
        recording = record(self.network, batch, nodes)
        parts = []
        first = 0
        for layer, basis in zip(self.layers, self.ekfac.bases, strict=True):
            size = layer.shape[0] * layer.shape[1]
            chosen = self.coordinates[(self.coordinates >= first) & (self.coordinates < first + size)] - first
            first += size
            left, place_left = torch.unique(chosen // layer.shape[1], return_inverse=True)
            right, place_right = torch.unique(chosen % layer.shape[1], return_inverse=True)
            places = place_left * len(right) + place_right
            sides = basis.sides[0].at(left), basis.sides[1].at(right)
            part = self.ekfac.diagonal.new_zeros(recording.n_rows, len(chosen))
            if len(chosen):
                for rows, block in row_gradients(layer, self.network.parameters[layer.weight], recording, sides):
                    part[rows] = block.flatten(1)[:, places]
            parts.append(part)
        return torch.cat(parts, dim=1), recording.weight


def fit_blended(
    network: GraphNetwork,
    rows: Rows,
    *,
    k: int = COORDINATES,
    batch_size: int = 100,
    sample_rows: int = SAMPLE_ROWS,
    seed: int = 0,
) -> BlendedCurvature:
    """Fit EK-FAC (on about ``sample_rows`` drawn rows) and then the block, on all rows, levelled, in one go."""
    sizes = gradient_sizes(network, rows, batch_size)
    levelled = LevelledRows(rows, sizes)
    sample = sampled_rows(levelled, sizes, sample_rows, seed)
    ekfac = fitted(EigenvalueFit(network, fitted(FactorFit(network), sample, batch_size)), sample, batch_size)
    return BlendedCurvature(fitted(SubspaceFit(network, ekfac, k=k), levelled, batch_size))
