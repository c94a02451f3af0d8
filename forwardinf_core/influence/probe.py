r"""What a network makes of a row, read off in one forward pass: half-way, before its head, and at its end.

Half-way through, a network still sees *where* something is and no longer cares about its exact pixels, so two copies of
one photograph lie close together whatever was done to the file: the best single signal for near-duplicates there is.
Where half-way is, is read off the graph: the values that every path from the inputs to the outputs goes through, by
the share of the weight matrices that lie before them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from forwardinf_core.influence.graph import (
    GraphNetwork,
    aten,
    extract,
    is_per_row,
    is_row_count,
    placeholders,
    row_symbols,
    run,
)
from forwardinf_core.influence.network import Parameters
from forwardinf_core.influence.objective import Batch
from forwardinf_core.influence.split import downstream

GRID = 4  # cells a side that an activation map is pooled to
MOST_NUMBERS = 4_096  # of one pooled row: 16 KB; wider maps are pooled to fewer cells
MIDDLE = 0.5
HALFWAY, FEATURES, OUTPUTS = "halfway", "features", "outputs"


@dataclass(frozen=True)
class Layer:
    """A value between two blocks. ``depth`` is the share of the network's weight matrices before it."""

    node: fx.Node
    depth: float


class Probe:
    """Reads ``halfway`` (n, d), pooled and flattened, ``features`` (n, f), the head's input, and ``outputs`` (n, c).

    ``layer`` says where half-way is. Without a layer, or a head, those entries are missing.
    """

    def __init__(self, network: GraphNetwork, *, head: str | None, layer: Layer | None) -> None:
        self.layer = layer
        source = network.graph_module
        nodes = {node.name: node for node in placeholders(source)}
        inputs = {nodes[name]: name for name in network.inputs}
        (result,) = source.graph.output_node().args
        assert isinstance(result, fx.Node)
        wanted = {HALFWAY: layer.node if layer else None, FEATURES: _input_of_head(network, head), OUTPUTS: result}
        read = {name: node for name, node in wanted.items() if node is not None}
        part = extract(source, tuple(read.values()), inputs, row_symbols(inputs))
        self.names = tuple(read)
        self._graph_module = part.graph_module
        self._tensors = part.placed(_tensors(network, nodes))

    def __call__(self, batch: Batch) -> Parameters:
        """Return what is read of a batch, float32."""
        with torch.inference_mode():
            results = run(self._graph_module, self._tensors | batch)
            assert isinstance(results, tuple)
            found = {name: value.float() for name, value in zip(self.names, results, strict=True)}
            if HALFWAY in found:
                found[HALFWAY] = pooled(found[HALFWAY])
        return {name: value.clone() for name, value in found.items()}  # ordinary tensors, not inference ones


def middle_layer(network: GraphNetwork) -> Layer | None:
    """Return the layer nearest to the middle of the network, or None where its paths meet nowhere on the way."""
    return min(layers(network), key=lambda layer: abs(layer.depth - MIDDLE), default=None)


def layers(network: GraphNetwork) -> list[Layer]:
    """Return the layers between blocks, in the order they are computed: each the last value before the next weights.

    Only values that keep places apart (maps and sequences) count.
    """
    source = network.graph_module
    nodes = {node.name: node for node in placeholders(source)}
    inputs = [nodes[name] for name in network.inputs]
    symbols = row_symbols(inputs)
    matrices = {node for node, value in _tensors(network, nodes).items() if value.ndim >= 2}
    readers = {node for node in source.graph.nodes if not matrices.isdisjoint(node.all_input_nodes)}
    common = set(_common_points(source.graph, inputs, symbols))
    found: dict[int, Layer] = {}
    passed = 0
    for node in source.graph.nodes:
        passed += node in readers
        if node in common and passed and is_per_row(node, symbols) and node.meta["val"].ndim >= 3:
            found[passed] = Layer(node, passed / len(readers))
    return list(found.values())


def pooled(values: Tensor) -> Tensor:
    """Return maps (n, c, h, w) or sequences (n, t, d) averaged over the cells of a grid, flattened to (n, …)."""
    if values.ndim == 4:
        side = max(1, min(GRID, *values.shape[2:], math.isqrt(MOST_NUMBERS // values.shape[1])))
        return F.adaptive_avg_pool2d(values, side).flatten(1)
    if values.ndim == 3:
        cells = max(1, min(GRID * GRID, values.shape[1], MOST_NUMBERS // values.shape[2]))
        return F.adaptive_avg_pool1d(values.transpose(1, 2), cells).flatten(1)
    return values.flatten(1)


def _common_points(graph: fx.Graph, inputs: Sequence[fx.Node], symbols: set[object]) -> list[fx.Node]:
    """Return the nodes that every path from the inputs to the result passes; the number of rows is no path."""
    moving = downstream(graph, inputs)
    order = [node for node in graph.nodes if node in moving and node.op != "output" and not is_row_count(node, symbols)]
    position = {node: index for index, node in enumerate(order)}
    reach, common = -1, []
    for index, node in enumerate(order):
        if reach <= index and node not in inputs:
            common.append(node)
        users = [user for user in node.users if not is_row_count(user, symbols)]
        reach = max([reach, *(position.get(user, len(order)) for user in users)])
    return common


def _tensors(network: GraphNetwork, nodes: dict[str, fx.Node]) -> dict[fx.Node, Tensor]:
    return {nodes[name]: value for name, value in (network.constants | network.placed(network.parameters)).items()}


def _input_of_head(network: GraphNetwork, head: str | None) -> fx.Node | None:
    """Return the value that the linear layer called ``head`` takes."""
    placeholder = network.parameter_placeholders.get(f"{head}.weight")
    for node in network.graph_module.graph.nodes:
        if node.target is aten.linear.default and node.args[1].name == placeholder:
            (taken,) = [one for one in (node.args[0],) if isinstance(one, fx.Node)]
            return taken
    return None
