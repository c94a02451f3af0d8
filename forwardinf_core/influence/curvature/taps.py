r"""Inputs and output gradients of every node of a graph network that reads a movable parameter.

One forward and one backward pass of the summed losses give, for all rows of a batch at once, what every per-row
gradient is made of: for a weight with inputs a_t and output gradients b_t at the positions t of a row, Σ_t b_t a_tᵀ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from forwardinf_core.errors import ModelError
from forwardinf_core.influence.curvature.fitting import WEIGHT
from forwardinf_core.influence.graph import GraphNetwork, placeholders
from forwardinf_core.influence.objective import Batch

aten = torch.ops.aten

LINEAR, CONV, GROUPED_CONV, EMBEDDING, MATMUL = "linear", "conv", "grouped conv", "embedding", "matmul"
OFFSET, SCALE, NORM_SCALE = "offset", "scale", "norm scale"
_NORM = {"weight": NORM_SCALE, "bias": OFFSET}
_CONV = {"weight": CONV, "bias": OFFSET}
ROLES: dict[Any, dict[str, str]] = {
    aten.linear.default: {"weight": LINEAR, "bias": OFFSET},
    aten.conv2d.default: _CONV,
    aten.conv2d.padding: _CONV,
    aten.embedding.default: {"weight": EMBEDDING},
    aten.matmul.default: {"other": MATMUL},
    aten.mm.default: {"mat2": MATMUL},
    aten.addmm.default: {"mat2": MATMUL, "self": OFFSET},
    aten.layer_norm.default: _NORM,
    aten.batch_norm.default: _NORM,
    aten.group_norm.default: _NORM,
    aten.add.Tensor: {"self": OFFSET, "other": OFFSET},
    aten.mul.Tensor: {"self": SCALE, "other": SCALE},
    aten.expand.default: {"self": OFFSET},
    aten.unsqueeze.default: {"self": OFFSET},
}
"""What a parameter may do in a node: operator → argument → role. Anything else is refused by name."""
CHANNELS_SECOND = {aten.conv2d.default, aten.conv2d.padding, aten.batch_norm.default, aten.group_norm.default}


@dataclass(frozen=True)
class Use:
    """One place where a parameter is read."""

    node: str
    role: str
    argument: str
    target: Any


@dataclass(frozen=True)
class Record:
    """What went into one node and the gradient of the summed losses with respect to what came out, rows first."""

    arguments: dict[str, Any]
    gradient: Tensor


@dataclass(frozen=True)
class Recording:
    """The records of one batch, by node name. ``weight`` is the number of rows they stand for."""

    n_rows: int
    weight: Tensor
    nodes: dict[str, Record]


def uses_of(network: GraphNetwork) -> dict[str, list[Use]]:
    """Return every use of every movable parameter. Raises ModelError that names a parameter no role fits."""
    owner = {network.parameter_placeholders[name]: name for name in network.parameters}
    uses: dict[str, list[Use]] = {name: [] for name in network.parameters}
    for node in network.graph_module.graph.nodes:
        if node.op == "placeholder":
            continue
        read = {arg.name: owner[arg.name] for arg in node.all_input_nodes if arg.name in owner}
        if not read:
            continue
        arguments = _bind(node.target, node.args, node.kwargs) if node.target in ROLES else {}
        for placeholder, name in read.items():
            found = [arg for arg, value in arguments.items() if getattr(value, "name", None) == placeholder]
            role = ROLES[node.target].get(found[0]) if len(found) == 1 else None
            if role is None or not _is_supported(node.target, arguments, network.parameters[name], role):
                raise ModelError(
                    f"The curvature cannot be fitted for parameter {name}: it is used by {node.target}.",
                    hint="Linear, Conv2d, Embedding, normalisation layers, added and multiplied tensors are handled; "
                    "leave this parameter out of those that move.",
                )
            if role == CONV and arguments["groups"] != 1:
                role = GROUPED_CONV
            uses[name].append(Use(node.name, role, found[0], node.target))
    return uses


def record(network: GraphNetwork, batch: Batch, nodes: set[str]) -> Recording:
    """Return the records of the named nodes. Cost: one forward and one backward pass.

    Where rows are weighted, gradients carry the root of the weight, so that their squares carry the weight.
    """
    return _record(network, batch, nodes, batch.get(WEIGHT, torch.ones(_length(batch))))


def check_rows_are_separate(network: GraphNetwork, batch: Batch, nodes: set[str]) -> None:
    """Raise ModelError where one row's loss depends on another row, or where rows cannot be told apart."""
    pair = {name: value[:2] for name, value in batch.items()}
    if _length(pair) < 2:
        return
    for name, found in _record(network, pair, nodes, torch.tensor([1.0, 0.0])).nodes.items():
        if found.gradient.shape[0] % 2 or found.gradient.reshape(2, -1)[1].any():
            raise ModelError(
                f"The rows of a batch influence each other at {name}.",
                hint="A row's loss must depend on that row alone; is a normalisation layer in training mode?",
            )


def _record(network: GraphNetwork, batch: Batch, nodes: set[str], weights: Tensor) -> Recording:
    recorder = _Recorder(network, nodes, _length(batch))
    with torch.enable_grad():
        outputs = recorder.run(*recorder.placeholders(batch))
        losses = network.objective.losses(outputs, batch)
        total = (losses * weights.sqrt().to(losses)).sum()
        names = list(recorder.outputs)
        gradients = torch.autograd.grad(total, [recorder.outputs[name] for name in names], materialize_grads=True)
    records = {name: Record(recorder.arguments[name], grad) for name, grad in zip(names, gradients, strict=True)}
    return Recording(_length(batch), weights.sum(dtype=torch.float64), records)


class _Recorder(fx.Interpreter):
    """Runs the graph; keeps the arguments of chosen nodes and makes their outputs differentiable."""

    def __init__(self, network: GraphNetwork, nodes: set[str], n_rows: int) -> None:
        super().__init__(network.graph_module)
        self.network = network
        self.nodes = nodes
        self.n_rows = n_rows
        self.arguments: dict[str, dict[str, Any]] = {}
        self.outputs: dict[str, Tensor] = {}

    def placeholders(self, batch: Batch) -> list[Tensor]:
        values = self.network.constants | self.network.placed(self.network.parameters) | batch
        return [values[node.name] for node in placeholders(self.network.graph_module)]

    def run_node(self, n: fx.Node) -> Any:
        output = super().run_node(n)
        if n.name not in self.nodes:
            return output
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        bound = _bind(n.target, args, kwargs)
        self.arguments[n.name] = {
            name: value.detach() if isinstance(value, Tensor) else value for name, value in bound.items()
        }
        if not _has_rows(n):  # shared by all rows until here, e.g. position embeddings
            output = output.expand(self.n_rows, *output.shape[output.shape[0] == 1 :])
        if not output.requires_grad:
            output = output.detach().requires_grad_()
        self.outputs[n.name] = output
        return output


def _bind(target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    arguments = target._schema.arguments
    given = dict(zip([argument.name for argument in arguments], args, strict=False)) | kwargs
    return {argument.name: argument.default_value for argument in arguments} | given


def _is_supported(target: Any, arguments: dict[str, Any], parameter: Tensor, role: str) -> bool:
    if target is aten.batch_norm.default and arguments["training"]:
        return False
    if target is aten.addmm.default and (arguments["beta"], arguments["alpha"]) != (1, 1):
        return False
    if target is aten.add.Tensor and arguments["alpha"] != 1:
        return False
    if target is aten.unsqueeze.default and arguments["dim"] % (parameter.ndim + 1) != 0:
        return False  # in front of the others it stands for the rows
    return role != MATMUL or parameter.ndim == 2


def _has_rows(node: fx.Node) -> bool:
    """Say whether the first axis of a node's value grows with the batch: rows, or rows × positions."""
    size = node.meta["val"].shape[0]
    return isinstance(size, torch.SymInt) and not size.node.expr.is_number


def _length(batch: Batch) -> int:
    return len(next(iter(batch.values())))
