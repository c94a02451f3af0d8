r"""A network cut into a frozen trunk, whose activations are computed once per row, and the tail that the step moves.

The tail is every operation downstream of a movable parameter. The *frontier*, what is kept per row, are
the values with one entry per row that the tail takes from outside itself. Values that do not depend on the rows, or
that are cheaper to make again from the inputs than to keep (attention masks), are computed inside the tail.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram, unflatten

from forwardinf_core.errors import ModelError
from forwardinf_core.influence.graph import (
    GraphNetwork,
    Part,
    aten,
    distinct_rows,
    extract,
    is_per_row,
    is_row_count,
    placeholders,
    row_symbols,
    run,
    whole_graph,
)
from forwardinf_core.influence.objective import Batch, Objective

CHECK_ROWS = 3  # rows on which trunk and tail must agree with the module, together and one by one
TOLERANCE = 1e-4  # largest difference allowed there, relative to the largest output (float32 round-off is about 1e-6)


class Trunk:
    """The frozen part: activations of a batch, under the names by which the tail reads them."""

    def __init__(self, part: Part, names: Sequence[str], values: Mapping[str, Tensor], dropped: frozenset[str]) -> None:
        """``names``: of the results. ``values``: tensors by placeholder. ``dropped``: entries nothing later reads."""
        self.graph_module = part.graph_module
        self.names = tuple(names)
        self._values = dict(values)
        self._dropped = dropped

    def __call__(self, batch: Batch) -> Batch:
        """Return the activations, and every entry of the batch that tail or losses may still read."""
        with torch.inference_mode():
            results = run(self.graph_module, self._values | batch)
        assert isinstance(results, tuple)
        # no gradient flows through inference tensors: hand out ordinary ones
        activations = {name: value.clone() for name, value in zip(self.names, results, strict=True)}
        return activations | {name: value for name, value in batch.items() if name not in self._dropped}


@dataclass(frozen=True)
class Split:
    """``tail.outputs(parameters, trunk(batch))`` equals the outputs of the network that was cut."""

    trunk: Trunk
    tail: GraphNetwork


def split(module: nn.Module | ExportedProgram, objective: Objective, example: Batch, tail: Sequence[str]) -> Split:
    """Cut a module in eval mode where the modules (or single parameters) named in ``tail`` begin.

    ``example``: one or more rows with every entry that model and loss read. Afterwards the parts are compared with the
    module. Raises ModelError for an unknown name, a module that cannot be exported, or parts that do not agree with it.
    """
    callable_module = unflatten(module) if isinstance(module, ExportedProgram) else module
    parts = cut(whole_graph(callable_module, objective, example), tail)
    check(parts, callable_module, example)
    return parts


def cut(network: GraphNetwork, tail: Sequence[str]) -> Split:
    """Cut a graph where the modules (or single parameters) named in ``tail`` begin; nothing is run.

    A tail may be cut again: the second trunk turns activations of the first into its own.
    """
    movable = parameters_of(network, tail)
    source = network.graph_module
    nodes = {node.name: node for node in placeholders(source)}
    inputs = [nodes[name] for name in network.inputs]
    owners = {name: nodes[placeholder] for name, placeholder in network.parameter_placeholders.items()}
    tensors = {nodes[name]: value for name, value in (network.constants | network.placed(network.parameters)).items()}
    symbols = row_symbols(inputs)

    (result,) = source.graph.output_node().args
    assert isinstance(result, fx.Node)
    moving = downstream(source.graph, [owners[name] for name in movable])
    keepable = _keepable(source.graph, inputs, list(owners.values()), symbols)
    frontier = _frontier(result, keepable - moving | set(inputs), symbols)
    computed = tuple(node for node in frontier if node not in inputs)
    leaves = {node: node.name if node in inputs else f"trunk_{node.name.removeprefix('trunk_')}" for node in frontier}

    after = extract(source, result, leaves, symbols)
    before = extract(source, computed, {node: node.name for node in inputs}, symbols)
    tail_network = GraphNetwork(
        after.graph_module,
        network.objective,
        inputs=after.inputs,
        parameters={name: network.parameters[name] for name in movable},
        parameter_placeholders={name: after.copies[owners[name]].name for name in movable},
        constants=after.placed({node: value for node, value in tensors.items() if node not in moving}),
        loss_entries=network.loss_entries,
    )
    dropped = frozenset(network.inputs) - set(after.inputs) - set(network.loss_entries)
    return Split(Trunk(before, [leaves[node] for node in computed], before.placed(tensors), dropped), tail_network)


def parameters_of(network: GraphNetwork, modules: Sequence[str]) -> list[str]:
    """Return the movable parameters that lie in the named modules, or are named themselves, in the network's order."""
    for module in modules:
        if not any(_lies_in(name, module) for name in network.parameters):
            owners = sorted({name.rpartition(".")[0] or name for name in network.parameters})
            close = get_close_matches(module, owners, 5, 0.3) or owners[-5:]
            raise ModelError(
                f"The model has no module {module!r} whose weights could move.",
                hint=f"For example: {', '.join(close)}.",
            )
    return [name for name in network.parameters if any(_lies_in(name, module) for module in modules)]


def downstream(graph: fx.Graph, starts: Iterable[fx.Node]) -> set[fx.Node]:
    """Return the starts and every node that depends on one of them."""
    found = set(starts)
    for node in graph.nodes:
        if not found.isdisjoint(node.all_input_nodes):
            found.add(node)
    return found


def check(parts: Split, module: nn.Module, example: Batch) -> None:
    """Compare the parts with the module they were cut from, on rows together, in another order, and one by one.

    Raises ModelError where the outputs differ by more than TOLERANCE: a size or a condition was fixed while tracing,
    rows depend on each other, or the module is not deterministic.
    """
    rows = distinct_rows(example, CHECK_ROWS)
    activations = parts.trunk(rows)
    for chosen in (slice(None), slice(1, 2), torch.arange(CHECK_ROWS).flip(0)):
        with torch.inference_mode():
            expected = parts.tail.objective.outputs(module, {name: value[chosen] for name, value in rows.items()})
            found = parts.tail.outputs({}, {name: value[chosen] for name, value in activations.items()})
        if found.shape != expected.shape or not bool(torch.isfinite(expected).all()):
            raise ModelError(
                f"The model gives outputs of shape {tuple(expected.shape)} on which its graph cannot be checked.",
                hint=f"The graph gives {tuple(found.shape)}; both must agree and be finite.",
            )
        difference = float((found - expected).abs().max())
        if difference > TOLERANCE * max(float(expected.abs().max()), 1e-3):
            raise ModelError(
                f"The model's tail cannot be run by itself: outputs of {len(expected)} rows are off {difference:.2g}.",
                hint="Is it in eval mode, and does each row's output depend on that row alone, for any number of rows?",
            )


def _lies_in(parameter: str, module: str) -> bool:
    return parameter == module or parameter.startswith(f"{module}.")


def _keepable(
    graph: fx.Graph, inputs: Sequence[fx.Node], parameters: Sequence[fx.Node], symbols: set[object]
) -> set[fx.Node]:
    """Return the values worth keeping per row: one entry a row, made of the row's data, and dear to make again.

    Without parameters on its way, a value is kept only where it is no larger than the inputs it is made of. A value
    that depends on the number of rows but not on their data (arange(n)) belongs to a batch, not to a row.
    """
    origins: dict[fx.Node, frozenset[fx.Node]] = {node: frozenset([node]) for node in inputs}
    parametric = downstream(graph, parameters)
    keepable = set()
    for node in graph.nodes:
        if node.op == "placeholder" or node.target is aten.sym_size.int:
            continue
        origins[node] = frozenset().union(*(origins.get(source, frozenset()) for source in node.all_input_nodes))
        if origins[node] and is_per_row(node, symbols):
            dear = node in parametric or _bytes(node) <= sum(_bytes(source) for source in origins[node])
            keepable |= {node} if dear else set()
    return keepable


def _frontier(result: fx.Node, leaves: set[fx.Node], symbols: set[object]) -> list[fx.Node]:
    """Return the leaves that the result is made of; the number of rows is read off one of them."""
    frontier: list[fx.Node] = []
    seen: set[fx.Node] = set()
    waiting = [result]
    while waiting:
        node = waiting.pop()
        if node in seen or is_row_count(node, symbols):
            continue
        seen.add(node)
        if node in leaves:
            frontier.append(node)
        else:
            waiting += node.all_input_nodes
    return frontier


def _bytes(node: fx.Node) -> int:
    value: Tensor = node.meta["val"]
    return math.prod(value.shape[1:]) * value.element_size()
