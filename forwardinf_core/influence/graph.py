r"""A user's network as one flat, functional graph of tensor operations, exported once by ``torch.export``.

In the graph, parameters, buffers and batch entries are placeholders, and the objective's way of calling the model and
of taking its outputs is part of it. So whatever the module returns, running the graph gives the outputs (n, …), and
what the mirrored step moves can be told from what it leaves alone without knowing any architecture.
"""

from __future__ import annotations

from collections import UserDict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram, export, unflatten
from torch.export.graph_signature import InputKind

from forwardinf_core.errors import ModelError
from forwardinf_core.influence.network import Parameters
from forwardinf_core.influence.objective import Batch, Objective
from forwardinf_core.influence.rewrites import tidy

EXPORT_ROWS = 5  # any number above 1, which torch.export takes for a fixed size
EXPORT_HINT = "Methods that move the whole network work without a graph; the tail needs one."
_PREFIX = "module."  # of the user's names, inside the module that is exported

aten = torch.ops.aten


class GraphNetwork:
    """A network as a graph whose placeholders are its inputs, its movable parameters and its constants.

    ``inputs`` are the batch entries it reads and the names of their placeholders. ``parameters`` are the movable ones
    by the user's names, ``parameter_placeholders`` the placeholder of each, ``constants`` the frozen tensors by
    placeholder. ``loss_entries`` are the batch entries that the objective's losses read. The graph is functional and
    keeps linear, conv, embedding, layer_norm and batch_norm as one node each; its result is the outputs (n, …).
    """

    def __init__(
        self,
        graph_module: fx.GraphModule,
        objective: Objective,
        *,
        inputs: Sequence[str],
        parameters: Parameters,
        parameter_placeholders: Mapping[str, str],
        constants: Mapping[str, Tensor],
        loss_entries: Sequence[str],
    ) -> None:
        self.graph_module = graph_module
        self.objective = objective
        self.inputs = tuple(inputs)
        self.parameters = dict(parameters)
        self.parameter_placeholders = dict(parameter_placeholders)
        self.constants = dict(constants)
        self.loss_entries = tuple(loss_entries)

    def outputs(self, parameters: Parameters, batch: Batch) -> Tensor:
        """Return outputs (n, …); pure, also under ``torch.func``. Names left out keep their trained values."""
        assert parameters.keys() <= self.parameters.keys(), parameters.keys() - self.parameters.keys()
        result = run(self.graph_module, self.constants | self.placed(self.parameters | parameters) | batch)
        assert isinstance(result, Tensor)
        return result

    def placed(self, parameters: Parameters) -> dict[str, Tensor]:
        """Return the parameters by placeholder."""
        return {self.parameter_placeholders[name]: value for name, value in parameters.items()}


def whole_graph(module: nn.Module | ExportedProgram, objective: Objective, example: Batch) -> GraphNetwork:
    """Return the whole network, in the mode it is in (eval), as a graph in which every floating parameter may move.

    ``example``: at least one row with every entry that model and loss read. Any number of rows may be run later.
    Cost: about a second for a small network, no forward pass. Raises ModelError if the module cannot be exported.
    """
    if isinstance(module, ExportedProgram):
        module = unflatten(module)
    rows = distinct_rows(example, EXPORT_ROWS)
    program = _exported(_Caller(module, objective, tuple(rows)), tuple(rows.values()))
    graph_module = program.graph_module
    entries = iter(rows)
    first_names = {id(value): name for name, value in module.named_parameters()}  # tied parameters share one name
    named = dict(module.named_parameters(remove_duplicate=False))
    inputs: dict[fx.Node, str] = {}
    owners: dict[str, fx.Node] = {}
    constants: dict[fx.Node, Tensor] = {}
    for node, spec in zip(placeholders(graph_module), program.graph_signature.input_specs, strict=True):
        parameter = named.get((spec.target or "").removeprefix(_PREFIX)) if spec.kind is InputKind.PARAMETER else None
        if spec.kind is InputKind.USER_INPUT:
            inputs[node] = next(entries)
            _require_free_rows(node, inputs[node])
        elif parameter is not None and parameter.is_floating_point():
            owner = owners.setdefault(first_names[id(parameter)], node)
            if owner is not node:
                node.replace_all_uses_with(owner)
        else:
            constants[node] = _stored(program, spec.target)
    tidy(graph_module.graph)
    result = _single_result(graph_module.graph)
    part = extract(graph_module, result, inputs, row_symbols(inputs))
    return GraphNetwork(
        part.graph_module,
        objective,
        inputs=part.inputs,
        parameters={name: named[name].detach() for name, node in owners.items() if node in part.copies},
        parameter_placeholders={name: part.copies[node].name for name, node in owners.items() if node in part.copies},
        constants=part.placed(constants),
        loss_entries=_entries_of_losses(objective, result, rows),
    )


@dataclass(frozen=True)
class Part:
    """A piece of a graph, standing alone. ``copies``: node of the source → its twin."""

    graph_module: fx.GraphModule
    inputs: tuple[str, ...]
    copies: dict[fx.Node, fx.Node]

    def placed(self, tensors: Mapping[fx.Node, Tensor]) -> dict[str, Tensor]:
        """Return the tensors that this piece needs by placeholder, given them by placeholder of the source."""
        return {self.copies[node].name: value for node, value in tensors.items() if node in self.copies}


def extract(
    source: fx.GraphModule,
    results: fx.Node | tuple[fx.Node, ...],
    inputs: Mapping[fx.Node, str],
    symbols: set[object],
) -> Part:
    """Return the piece of a graph that computes ``results`` from ``inputs`` (node → name of its placeholder).

    Everything else it needs is copied. The number of rows, one of the ``symbols``, is read off an input.
    """
    wanted = results if isinstance(results, tuple) else (results,)
    needed = {node for node in _ancestors(wanted, inputs, symbols) if not is_row_count(node, symbols)}
    counts = [node for node in source.graph.nodes if is_row_count(node, symbols)]
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    used = {node: name for node, name in inputs.items() if node in needed}
    for node, name in used.items():
        copies[node] = graph.placeholder(name)
        if copies[node].name != name:
            raise ModelError(f"A batch entry cannot be called {name!r}.", hint="Use a name that Python leaves free.")
    for node in placeholders(source):
        if node in needed and node not in used:
            copies[node] = graph.placeholder(node.name)
    if used and counts:
        first = copies[next(iter(used))]
        n_rows = graph.call_function(aten.sym_size.int, (first, 0))
        n_rows.meta = dict(counts[0].meta)
        copies |= dict.fromkeys(counts, n_rows)
    for node in source.graph.nodes:
        if node in needed and node not in copies:
            copies[node] = graph.node_copy(node, copies.__getitem__)
    for node in needed:
        copies[node].meta = dict(node.meta)
    graph.output(fx.node.map_arg(results, copies.__getitem__))
    graph.eliminate_dead_code()
    return Part(fx.GraphModule(source, graph), tuple(used.values()), copies)


def row_symbols(inputs: Iterable[fx.Node]) -> set[object]:
    """Return the symbols that stand for the number of rows in the sizes of a graph."""
    return {node.meta["val"].shape[0].node.expr for node in inputs}


def is_row_count(node: fx.Node, symbols: set[object]) -> bool:
    """Say whether a node is the number of rows, read off some tensor."""
    value = node.meta.get("val")
    return node.target is aten.sym_size.int and isinstance(value, torch.SymInt) and value.node.expr in symbols


def is_per_row(node: fx.Node, symbols: set[object]) -> bool:
    """Say whether a node's value is a tensor whose first axis has the size of the batch."""
    value = node.meta.get("val")
    if not isinstance(value, Tensor) or value.ndim == 0 or not _is_free(value.shape[0]):
        return False
    return value.shape[0].node.expr in symbols and not any(_is_free(size) for size in value.shape[1:])


def run(graph_module: fx.GraphModule, values: Mapping[str, Tensor]) -> object:
    """Run a graph on values by placeholder; values that it has no placeholder for are ignored."""
    return graph_module(*[values[node.name] for node in placeholders(graph_module)])


def placeholders(graph_module: fx.GraphModule) -> Iterator[fx.Node]:
    """Yield the placeholders in the order of the graph module's arguments."""
    return iter(graph_module.graph.find_nodes(op="placeholder"))


def distinct_rows(example: Batch, n_rows: int) -> Batch:
    """Return ``n_rows`` rows made of the example's, rolled along their last axis where a row comes again."""
    n_given = len(next(iter(example.values())))

    def row(value: Tensor, index: int) -> Tensor:
        found = value[index % n_given]
        return found.roll(index // n_given, -1) if found.ndim else found

    return {name: torch.stack([row(value, index) for index in range(n_rows)]) for name, value in example.items()}


class _Caller(nn.Module):
    """The module called by its objective, which also takes the outputs from what it returns."""

    def __init__(self, module: nn.Module, objective: Objective, entries: tuple[str, ...]) -> None:
        super().__init__()
        self.module = module
        self.objective = objective
        self.entries = entries

    def forward(self, *values: Tensor) -> Tensor:
        return self.objective.outputs(self.module, dict(zip(self.entries, values, strict=True)))


class _Recorder(UserDict[str, Tensor]):
    """A batch that remembers which of its entries were read."""

    def __init__(self, batch: Batch) -> None:
        self.read: list[str] = []
        super().__init__(batch)

    def __getitem__(self, name: str) -> Tensor:
        self.read.append(name)
        return super().__getitem__(name)


def _exported(caller: _Caller, values: tuple[Tensor, ...]) -> ExportedProgram:
    try:
        with torch.no_grad():
            program: ExportedProgram = export(caller, values, dynamic_shapes=(tuple({0: Dim.AUTO} for _ in values),))
            program = program.run_decompositions({})  # makes it functional; composite operators stay whole
    except Exception as error:  # the user's own code runs here and may raise anything
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ModelError(f"The model cannot be turned into a graph: {reason}", hint=EXPORT_HINT) from error
    return program


def _is_free(size: int | torch.SymInt) -> TypeGuard[torch.SymInt]:
    return isinstance(size, torch.SymInt) and not size.node.expr.is_number  # a size fixed on the way stays a SymInt


def _require_free_rows(node: fx.Node, name: str) -> None:
    if not _is_free(node.meta["val"].shape[0]):
        raise ModelError(
            f"The model takes batches of one size only: tracing it fixed the rows of {name!r}.",
            hint="Write its forward pass for any number of rows (x.shape[0] instead of a number).",
        )


def _stored(program: ExportedProgram, name: str | None) -> Tensor:
    value = program.state_dict.get(name or "", program.constants.get(name or ""))
    if not isinstance(value, Tensor):
        raise ModelError(f"The model holds {name}, which is no tensor.", hint=EXPORT_HINT)
    return value.detach()


def _single_result(graph: fx.Graph) -> fx.Node:
    (results,) = graph.output_node().args
    assert isinstance(results, tuple)
    if len(results) != 1 or not isinstance(results[0], fx.Node):
        raise ModelError("The model changes its own buffers in eval mode.", hint=EXPORT_HINT)
    return results[0]


def _ancestors(results: Iterable[fx.Node], leaves: Container[fx.Node], symbols: set[object]) -> set[fx.Node]:
    """Return the nodes that ``results`` need, down to the leaves; a number of rows needs nothing."""
    found: set[fx.Node] = set()
    waiting = list(results)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            if node not in leaves and not is_row_count(node, symbols):
                waiting += node.all_input_nodes
    return found


def _entries_of_losses(objective: Objective, result: fx.Node, rows: Batch) -> tuple[str, ...]:
    value = result.meta["val"]
    outputs = torch.zeros((EXPORT_ROWS, *value.shape[1:]), dtype=value.dtype, device=value.device)
    recorder = _Recorder(rows)
    try:
        objective.losses(outputs, recorder)  # type: ignore[arg-type]  # reads like the dict it stands for
    except KeyError as error:
        raise ModelError(
            f"The example batch has no entry {error}, which the loss reads.", hint=f"It has {', '.join(rows)}."
        ) from error
    return tuple(dict.fromkeys(recorder.read))
