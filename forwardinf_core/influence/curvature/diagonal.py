r"""The diagonal of the empirical Fisher, E_i[g_i²] for every parameter, from per-row gradients of any network."""

from __future__ import annotations

import torch

from forwardinf_core.influence.curvature.gradients import Layout, row_gradients
from forwardinf_core.influence.network import Network, Parameters
from forwardinf_core.influence.objective import Batch

_ROWS, _SQUARES = "rows", "squares"


class DiagonalCurvature:
    """The Fisher as a diagonal in the parameters' own axes."""

    kind = "diagonal"

    def __init__(self, diagonal: Parameters) -> None:
        self.diagonal = diagonal
        self.mean_squared_norm = sum(float(value.sum(dtype=torch.float64)) for value in diagonal.values())

    def solve(self, gradients: list[Parameters], *, damping: float) -> list[Parameters]:
        damping_value = damping * self.mean_squared_norm
        return [
            {name: one[name] / (value + damping_value) for name, value in self.diagonal.items()} for one in gradients
        ]

    def tensors(self) -> Parameters:
        return self.diagonal

    @classmethod
    def from_tensors(cls, tensors: Parameters) -> DiagonalCurvature:
        return cls(dict(sorted(tensors.items())))


class DiagonalFit:
    """One read: sums of squared row gradients."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.layout = Layout.of(network.parameters)

    def start(self) -> Parameters:
        example = next(iter(self.network.parameters.values()))
        return {_ROWS: torch.zeros((), dtype=torch.int64), _SQUARES: example.new_zeros(self.layout.size)}

    def accumulate(self, state: Parameters, batch: Batch) -> Parameters:
        squares = state[_SQUARES]
        for block in row_gradients(self.network, batch):
            squares = squares + block.square().sum(0)
        n_rows = len(next(iter(batch.values())))
        return {_ROWS: state[_ROWS] + n_rows, _SQUARES: squares}

    def finish(self, state: Parameters) -> DiagonalCurvature:
        return DiagonalCurvature(self.layout.unflatten((state[_SQUARES] / state[_ROWS]).unsqueeze(0))[0])
