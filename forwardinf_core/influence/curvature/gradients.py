r"""Per-row gradients as rows of one matrix, of any network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor
from torch.func import grad, vmap

from forwardinf_core.errors import ModelError
from forwardinf_core.influence.curvature.layers import BLOCK_NUMBERS, Layer, Side, layers_of, nodes_of
from forwardinf_core.influence.curvature.layers import row_gradients as layer_gradients
from forwardinf_core.influence.curvature.taps import check_rows_are_separate, record
from forwardinf_core.influence.graph import GraphNetwork
from forwardinf_core.influence.network import Network, Parameters, losses, slices
from forwardinf_core.influence.objective import Batch

SHAPE = "shape|"


@dataclass(frozen=True)
class Layout:
    """Where each parameter lies in a flat vector: one after the other, by name."""

    shapes: tuple[tuple[str, tuple[int, ...]], ...]

    @classmethod
    def of(cls, parameters: Parameters) -> Layout:
        return cls(tuple((name, tuple(parameters[name].shape)) for name in sorted(parameters)))

    @classmethod
    def from_tensors(cls, tensors: Parameters) -> Layout:
        names = sorted(name.removeprefix(SHAPE) for name in tensors if name.startswith(SHAPE))
        return cls(tuple((name, tuple(tensors[SHAPE + name].tolist())) for name in names))

    def tensors(self) -> Parameters:
        return {SHAPE + name: torch.tensor(shape, dtype=torch.int64) for name, shape in self.shapes}

    @property
    def size(self) -> int:
        return sum(prod(shape) for _, shape in self.shapes)

    def flatten(self, parameters: Sequence[Parameters]) -> Tensor:
        """Return (len(parameters), size)."""
        return torch.stack([torch.cat([one[name].flatten() for name, _ in self.shapes]) for one in parameters])

    def unflatten(self, vectors: Tensor) -> list[Parameters]:
        parts = torch.split(vectors, [prod(shape) for _, shape in self.shapes], dim=1)
        return [
            {name: part[row].reshape(shape) for (name, shape), part in zip(self.shapes, parts, strict=True)}
            for row in range(len(vectors))
        ]


def row_gradients(network: Network, batch: Batch) -> Iterator[Tensor]:
    """Yield the gradients of the rows' losses in blocks of bounded memory, (n_block, size of the layout).

    A graph network whose parameters all have a known role gives them for the price of one backward pass and a matrix
    product; any other network by one vectorised backward pass for each row.
    """
    layout = Layout.of(network.parameters)
    n_rows = len(next(iter(batch.values())))
    layers = known_layers(network)
    for start, stop in slices(n_rows, max(1, BLOCK_NUMBERS // layout.size)):
        block = {name: value[start:stop] for name, value in batch.items()}
        if layers is not None and isinstance(network, GraphNetwork):
            yield recorded_gradients(network, block, layers, layout)
        else:
            yield vectorised_gradients(network, block, layout)


def vectorised_gradients(network: Network, batch: Batch, layout: Layout) -> Tensor:
    """Return the row gradients (n, size of the layout) of any network."""

    def loss(parameters: Parameters, row: Batch) -> Tensor:
        return losses(network, parameters, {name: value.unsqueeze(0) for name, value in row.items()})[0]

    found: Parameters = vmap(grad(loss), in_dims=(None, 0))(network.parameters, batch)
    return torch.cat([found[name].flatten(1) for name, _ in layout.shapes], dim=1)


def recorded_gradients(network: GraphNetwork, batch: Batch, layers: list[Layer], layout: Layout) -> Tensor:
    """Return the row gradients (n, size of the layout) of a graph network."""
    nodes = nodes_of(layers)
    check_rows_are_separate(network, batch, nodes)
    recording = record(network, batch, nodes)
    found: Parameters = {}
    for layer in layers:
        weight = network.parameters[layer.weight]
        dense = weight.new_zeros(recording.n_rows, *layer.shape)
        for rows, block in layer_gradients(layer, weight, recording, (Side(), Side())):
            dense[rows] = block
        found[layer.weight] = dense if layer.bias is None else dense[:, :, :-1]
        if layer.bias is not None:
            found[layer.bias] = dense[:, :, -1]
    return torch.cat([found[name].flatten(1) for name, _ in layout.shapes], dim=1)


def known_layers(network: Network) -> list[Layer] | None:
    """Return the layers of a graph network whose parameters all have a known role; None for any other network."""
    if not isinstance(network, GraphNetwork):
        return None
    try:
        return layers_of(network)
    except ModelError:  # a parameter without a known role: the general way is just as exact
        return None
