r"""The exact inverse of the empirical Fisher, where its size allows: over parameters, or over rows.

With few parameters, F = (1/n) Gᵀ G is held as a matrix (p, p). With few rows, the row gradients G (n, p) themselves are
held, and (F + λI)⁻¹ q = (q − Gᵀ (nλI + G Gᵀ)⁻¹ G q) / λ (Woodbury), which inverts an (n, n) matrix instead.
"""

from __future__ import annotations

import torch
from torch import Tensor

from forwardinf_core.errors import ModelError
from forwardinf_core.influence.curvature.gradients import Layout, row_gradients
from forwardinf_core.influence.network import Network, Parameters
from forwardinf_core.influence.objective import Batch

MOST_PARAMETERS = 6_000  # 288 MB as a float64 matrix, seconds to factor
MOST_ROWS = 10_000
MOST_BYTES = 2 << 30  # of stored row gradients
_ROWS, _FISHER, _NORM, _GRADIENTS = "rows", "fisher", "mean_squared_norm", "gradients"


class FisherCurvature:
    """The Fisher as a dense matrix over the parameters."""

    kind = "fisher"

    def __init__(self, layout: Layout, fisher: Tensor) -> None:
        self.layout = layout
        self.fisher = fisher  # (p, p)
        self.mean_squared_norm = float(fisher.trace())
        self._factor: tuple[float, Tensor] | None = None

    def solve(self, gradients: list[Parameters], *, damping: float) -> list[Parameters]:
        damping_value = damping * self.mean_squared_norm
        if self._factor is None or self._factor[0] != damping_value:
            self._factor = damping_value, _cholesky(self.fisher, damping_value)
        queries = self.layout.flatten(gradients)
        solved = torch.cholesky_solve(queries.double().T, self._factor[1]).T
        return self.layout.unflatten(solved.to(queries.dtype))

    def tensors(self) -> Parameters:
        return {_FISHER: self.fisher} | self.layout.tensors()

    @classmethod
    def from_tensors(cls, tensors: Parameters) -> FisherCurvature:
        return cls(Layout.from_tensors(tensors), tensors[_FISHER])


class FisherFit:
    """One read: Gᵀ G, block by block. Refuses a network with too many parameters."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.layout = Layout.of(network.parameters)
        if self.layout.size > MOST_PARAMETERS:
            raise ModelError(
                f"The dense Fisher is too large for {self.layout.size:,} parameters (at most {MOST_PARAMETERS:,}).",
                hint="Let fewer parameters move, or choose another curvature.",
            )

    def start(self) -> Parameters:
        size = self.layout.size
        return {_ROWS: torch.zeros((), dtype=torch.int64), _FISHER: torch.zeros(size, size, dtype=torch.float64)}

    def accumulate(self, state: Parameters, batch: Batch) -> Parameters:
        rows, fisher = state[_ROWS], state[_FISHER]
        for block in row_gradients(self.network, batch):
            rows, fisher = rows + len(block), fisher + block.T @ block
        return {_ROWS: rows, _FISHER: fisher}

    def finish(self, state: Parameters) -> FisherCurvature:
        return FisherCurvature(self.layout, state[_FISHER] / state[_ROWS])


class DualCurvature:
    """The Fisher by the row gradients themselves."""

    kind = "dual"

    def __init__(self, layout: Layout, gradients: Tensor) -> None:
        self.layout = layout
        self.gradients = gradients  # (n, p)
        self.gram = gradients @ gradients.T / len(gradients)  # (n, n)
        self.mean_squared_norm = float(self.gram.trace())
        self._factor: tuple[float, Tensor] | None = None

    def solve(self, gradients: list[Parameters], *, damping: float) -> list[Parameters]:
        damping_value = damping * self.mean_squared_norm
        if self._factor is None or self._factor[0] != damping_value:
            self._factor = damping_value, _cholesky(self.gram, damping_value)
        queries = self.layout.flatten(gradients).T  # (p, queries)
        products = (self.gradients @ queries).double() / len(self.gradients)
        weights = torch.cholesky_solve(products, self._factor[1]).to(queries.dtype)
        return self.layout.unflatten(((queries - self.gradients.T @ weights) / damping_value).T)

    def tensors(self) -> Parameters:
        return {_GRADIENTS: self.gradients} | self.layout.tensors()

    @classmethod
    def from_tensors(cls, tensors: Parameters) -> DualCurvature:
        return cls(Layout.from_tensors(tensors), tensors[_GRADIENTS])


class DualFit:
    """One read: the row gradients, a new entry of the state for each batch. Refuses too many rows or bytes."""

    def __init__(self, network: Network, n_rows: int) -> None:
        self.network = network
        self.layout = Layout.of(network.parameters)
        numbers = n_rows * self.layout.size
        if n_rows > MOST_ROWS or numbers * 4 > MOST_BYTES:
            raise ModelError(
                f"The row gradients are too large to keep: {n_rows:,} rows of {self.layout.size:,} parameters need "
                f"{numbers * 4 / 2**30:,.1f} GiB (at most {MOST_ROWS:,} rows and {MOST_BYTES / 2**30:.0f} GiB).",
                hint="Let fewer parameters move, or choose another curvature.",
            )

    def start(self) -> Parameters:
        return {}

    def accumulate(self, state: Parameters, batch: Batch) -> Parameters:
        gradients = torch.cat(list(row_gradients(self.network, batch)))
        return state | {f"{_GRADIENTS}|{len(state):06d}": gradients}

    def finish(self, state: Parameters) -> DualCurvature:
        return DualCurvature(self.layout, torch.cat([state[name] for name in sorted(state)]))


def _cholesky(matrix: Tensor, damping_value: float) -> Tensor:
    damped = matrix.to(torch.float64, copy=True)
    damped.diagonal().add_(damping_value)
    factor: Tensor = torch.linalg.cholesky(damped)
    return factor
