r"""Per-row gradients of a graph network, layer by layer, rotated into any pair of bases on the way.

A layer is one parameter W seen as a matrix (rows × columns), its bias folded in as one more column. Where W multiplies
its input (Linear, Conv2d, matrix products, Embedding), a row's gradient is g = Σ_t l_t r_tᵀ over the positions t, and
Lᵀ g R = Σ_t (Lᵀ l_t)(Rᵀ r_t)ᵀ is summed from rotated factors, a convolution's by convolving with the columns of R.
Scales and offsets (normalisation layers, lone biases) and grouped convolutions have no such factors: they keep their
axes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from forwardinf_core.influence.curvature.taps import (
    CHANNELS_SECOND,
    CONV,
    EMBEDDING,
    GROUPED_CONV,
    LINEAR,
    MATMUL,
    NORM_SCALE,
    OFFSET,
    SCALE,
    Recording,
    Use,
    uses_of,
)
from forwardinf_core.influence.graph import GraphNetwork

BLOCK_NUMBERS = 1 << 24  # numbers in one block of per-row gradients: 64 MiB in float32
FACTORED = {LINEAR, CONV, EMBEDDING, MATMUL}


@dataclass(frozen=True)
class Side:
    """How one axis of a layer's matrix is read: in a basis (size, k), at some positions, or as it is."""

    basis: Tensor | None = None
    positions: Tensor | None = None

    def of(self, factor: Tensor) -> Tensor:
        """Return the last axis of ``factor`` as this side reads it."""
        if self.basis is not None:
            return factor @ self.basis
        return factor if self.positions is None else factor[..., self.positions]

    def at(self, positions: Tensor) -> Side:
        """Return a whole side restricted to some positions."""
        return Side(positions=positions) if self.basis is None else Side(basis=self.basis[:, positions])


@dataclass(frozen=True)
class Layer:
    """One parameter as a matrix, and every place that reads it."""

    weight: str
    bias: str | None
    uses: tuple[Use, ...]
    shape: tuple[int, int]  # rows, columns with the bias

    @property
    def is_factored(self) -> bool:
        return bool(self.uses) and all(use.role in FACTORED for use in self.uses)


def layers_of(network: GraphNetwork) -> list[Layer]:
    """Return the layers of all movable parameters, by name. Raises ModelError that names what cannot be handled."""
    uses = uses_of(network)
    folded = {_weight_of(bias, uses): bias for bias in uses}
    folded.pop(None, None)
    layers = []
    for name in sorted(set(uses) - set(folded.values())):
        rows, columns = matrix_shape(network.parameters[name])
        layers.append(Layer(name, folded.get(name), tuple(uses[name]), (rows, columns + (name in folded))))
    return layers


def matrix_shape(parameter: Tensor) -> tuple[int, int]:
    """Return the shape of a parameter seen as a matrix: first axis × all others, one row for a vector."""
    rows = parameter.shape[0] if parameter.ndim > 1 else 1
    return rows, parameter.numel() // rows


def nodes_of(layers: list[Layer]) -> set[str]:
    """Return the graph nodes that must be recorded for these layers."""
    return {use.node for layer in layers for use in layer.uses}


def row_gradients(
    layer: Layer, parameter: Tensor, recording: Recording, sides: tuple[Side, Side]
) -> Iterator[tuple[slice, Tensor]]:
    """Yield (which rows, their Lᵀ g_i R) in blocks (n_block, rows as L reads them, columns as R does)."""
    parts = [_part(layer, use, parameter, recording, sides) for use in layer.uses]
    if not parts:
        return
    for rows in _blocks(recording.n_rows, layer.shape[0] * layer.shape[1]):
        yield rows, sum((part(rows) for part in parts[1:]), start=parts[0](rows))


def squared_row_gradients(layer: Layer, parameter: Tensor, recording: Recording, sides: tuple[Side, Side]) -> Tensor:
    """Return Σ_i (Lᵀ g_i R)², elementwise, (rows, columns)."""
    if len(layer.uses) == 1:
        use = layer.uses[0]
        if use.role == EMBEDDING:
            return _squared_embedding_gradients(layer, use, recording, sides[1])
        if use.role in (LINEAR, MATMUL):
            left, right = _rotated_factors(layer, use, recording, sides)
            if left.shape[1] == 1:  # one position: g_i is an outer product
                return left.squeeze(1).square().T @ right.squeeze(1).square()
    total = parameter.new_zeros(layer.shape)
    for _, block in row_gradients(layer, parameter, recording, sides):
        total = total + block.square().sum(0)
    return total


def covariances(layer: Layer, recording: Recording, limit: int) -> dict[int, Tensor]:
    """Return {0: Σ l lᵀ, 1: Σ r rᵀ} over rows and positions, without an axis longer than ``limit`` or one-hot."""
    totals: dict[int, Tensor] = {}
    for use in layer.uses:
        positions = recording.nodes[use.node].gradient[0, 0].numel() if use.role == CONV else 1
        for rows in _blocks(recording.n_rows, positions * layer.shape[1]):
            for axis, factor in _factors(layer, use, recording, rows).items():
                if layer.shape[axis] <= limit:
                    flat = factor.flatten(0, 1)
                    product = flat.T @ flat
                    totals[axis] = totals[axis] + product if axis in totals else product
    return {axis: total for axis, total in totals.items() if axis in bases_of(layer, limit)}


def bases_of(layer: Layer, limit: int) -> tuple[int, ...]:
    """Return the axes of a layer that get a basis: those of factors, no longer than ``limit`` and not one-hot."""
    if not layer.is_factored:
        return ()
    one_hot = any(use.role == EMBEDDING for use in layer.uses)
    return tuple(axis for axis in (0, 1) if layer.shape[axis] <= limit and not (axis == 0 and one_hot))


def applied(use: Use, change: Tensor, recording: Recording) -> Tensor:
    """Return how a node's output changes with ``change`` of the parameter it reads, to first order, rows first."""
    record = recording.nodes[use.node]
    arguments, shape = record.arguments, record.gradient.shape
    if use.role in (LINEAR, CONV, GROUPED_CONV):
        output: Tensor = use.target(**(arguments | {"weight": change, "bias": None}))
    elif use.role == MATMUL:
        output = arguments["mat1" if "mat1" in arguments else "self"] @ change
    elif use.role == EMBEDDING:
        output = change[arguments["indices"]] * (arguments["indices"] != arguments["padding_idx"]).unsqueeze(-1)
    else:
        if use.target in CHANNELS_SECOND:
            change = change.reshape(-1, *[1] * (len(shape) - 2))
        output = change
        if use.role == NORM_SCALE:
            output = change * use.target(**(arguments | {"weight": None, "bias": None}))
        elif use.role == SCALE:
            output = change * arguments["other" if use.argument == "self" else "self"]
    return output.expand(shape)


def _weight_of(bias: str, uses: dict[str, list[Use]]) -> str | None:
    """Return the weight whose only use is the same Linear or Conv2d node as the bias's only use."""
    if len(uses[bias]) != 1 or uses[bias][0].role != OFFSET or uses[bias][0].argument != "bias":
        return None
    node = uses[bias][0].node
    weights = [
        name for name, found in uses.items() if any(use.node == node and use.argument == "weight" for use in found)
    ]
    is_matrix = weights and len(uses[weights[0]]) == 1 and uses[weights[0]][0].role in (LINEAR, CONV)
    return weights[0] if is_matrix else None


def _part(
    layer: Layer, use: Use, parameter: Tensor, recording: Recording, sides: tuple[Side, Side]
) -> Callable[[slice], Tensor]:
    """Return the function that gives one use's share of the gradients of some rows."""
    if use.role == EMBEDDING:
        tokens, gradient = _embedding_factors(use, recording)
        right = sides[1].of(gradient)
        return lambda rows: _scattered(tokens[rows], right[rows], layer.shape[0], sides[0])
    if use.role in FACTORED:
        left, right = _rotated_factors(layer, use, recording, sides)
        return lambda rows: left[rows].transpose(1, 2) @ right[rows]
    dense = _unfactored(use, parameter, recording).reshape(recording.n_rows, *layer.shape)
    return lambda rows: sides[1].of(sides[0].of(dense[rows].transpose(1, 2)).transpose(1, 2))


def _rotated_factors(layer: Layer, use: Use, recording: Recording, sides: tuple[Side, Side]) -> tuple[Tensor, Tensor]:
    basis, record = sides[1].basis, recording.nodes[use.node]
    if use.role == CONV and basis is not None:
        inputs, kernel = record.arguments["input"], record.arguments["weight"].shape[1:]
        filters = (basis[:-1] if layer.bias else basis).T.reshape(-1, *kernel)
        offset = basis[-1].contiguous() if layer.bias else None
        convolved = use.target(**(record.arguments | {"input": inputs, "weight": filters, "bias": offset}))
        return sides[0].of(_pixels(record.gradient)), _pixels(convolved)
    factors = _factors(layer, use, recording, slice(None))
    return sides[0].of(factors[0]), sides[1].of(factors[1])


def _factors(layer: Layer, use: Use, recording: Recording, rows: slice) -> dict[int, Tensor]:
    """Return the factors {0: l (n, t, rows), 1: r (n, t, columns)} of some rows; without l where it is one-hot."""
    n_rows, record = recording.n_rows, recording.nodes[use.node]
    arguments = record.arguments
    if use.role == EMBEDDING:
        return {1: _embedding_factors(use, recording)[1][rows]}
    if use.role == CONV:
        left, right = _pixels(record.gradient[rows]), _patches(arguments, rows).transpose(1, 2)
    else:
        inputs = arguments["input"] if use.role == LINEAR else arguments["mat1" if "mat1" in arguments else "self"]
        left = _tokens(record.gradient, n_rows)
        right = _tokens(inputs, n_rows, left.shape[1])[rows]
        left = left[rows]
    if use.role == MATMUL:
        left, right = right, left  # the weight lies (inputs, outputs)
    if layer.bias:
        right = torch.cat([right, right.new_ones(*right.shape[:2], 1)], dim=2)
    return {0: left, 1: right}


def _unfactored(use: Use, parameter: Tensor, recording: Recording) -> Tensor:
    """Return the row gradients (n, parameter) of an offset, a scale or a grouped convolution."""
    record = recording.nodes[use.node]
    arguments, gradient = record.arguments, record.gradient
    if use.role == GROUPED_CONV:
        groups = arguments["groups"]
        n_positions = gradient[0, 0].numel()
        left = gradient.reshape(recording.n_rows, groups, -1, n_positions)
        right = _patches(arguments, slice(None)).reshape(recording.n_rows, groups, -1, n_positions)
        return torch.einsum("ngot,ngit->ngoi", left, right)
    per_channel = use.target in CHANNELS_SECOND
    shape = (len(parameter), *[1] * (gradient.ndim - 2)) if per_channel else tuple(parameter.shape)
    if use.role == NORM_SCALE:
        gradient = gradient * use.target(**(arguments | {"weight": None, "bias": None}))
    elif use.role == SCALE:
        gradient = gradient * arguments["other" if use.argument == "self" else "self"]
    if len(gradient) != recording.n_rows:  # rows and positions share the first axis
        gradient = gradient.reshape(recording.n_rows, -1, *gradient.shape[1:])
    aligned = (1,) * (gradient.ndim - len(shape)) + shape
    shared = [axis for axis in range(1, gradient.ndim) if aligned[axis] == 1]
    return gradient.sum(shared, keepdim=True) if shared else gradient


def _embedding_factors(use: Use, recording: Recording) -> tuple[Tensor, Tensor]:
    """Return tokens (n, t) and output gradients (n, t, columns), 0 where the token is padding."""
    arguments = recording.nodes[use.node].arguments
    gradient = _tokens(recording.nodes[use.node].gradient, recording.n_rows)
    tokens = _tokens(arguments["indices"].unsqueeze(-1), recording.n_rows, gradient.shape[1]).squeeze(-1)
    return tokens, gradient * (tokens != arguments["padding_idx"]).unsqueeze(-1)


def _scattered(tokens: Tensor, right: Tensor, n_tokens: int, side: Side) -> Tensor:
    """Return Σ_t e_{token t} r_tᵀ for every row, (n, tokens that ``side`` keeps, columns)."""
    if side.positions is not None:
        kept = len(side.positions)
        place = torch.full((n_tokens,), kept).index_copy(0, side.positions, torch.arange(kept))
        tokens, n_tokens = place[tokens], kept + 1
    index = tokens.unsqueeze(-1).expand_as(right)
    sums = right.new_zeros(len(right), n_tokens, right.shape[2]).scatter_add(1, index, right)
    return sums if side.positions is None else sums[:, :-1]


def _squared_embedding_gradients(layer: Layer, use: Use, recording: Recording, side: Side) -> Tensor:
    """Return Σ_i g_i² of an embedding by summing over the tokens that occur in each row only."""
    tokens, gradient = _embedding_factors(use, recording)
    right = side.of(gradient).flatten(0, 1)
    keys = tokens + layer.shape[0] * torch.arange(len(tokens)).unsqueeze(1)
    found, place = torch.unique(keys, return_inverse=True)
    sums = right.new_zeros(len(found), right.shape[1]).index_add(0, place.flatten(), right)
    return right.new_zeros(layer.shape[0], right.shape[1]).index_add(0, found % layer.shape[0], sums.square())


def _tokens(values: Tensor, n_rows: int, n_positions: int | None = None) -> Tensor:
    """Return (n, t, features) of values (n, …, features) or (n · t, features), or (…, features) shared by all rows."""
    if n_positions is not None and values.shape[:-1].numel() == n_positions:
        values = values.expand(n_rows, *values.shape)
    return values.reshape(n_rows, -1, values.shape[-1])


def _pixels(values: Tensor) -> Tensor:
    return values.flatten(2).transpose(1, 2)  # (n, channels, height, width) -> (n, t, channels)


def _patches(arguments: dict[str, Any], rows: slice) -> Tensor:
    """Return the patches (n, channels · kernel, t) under a convolution's kernel."""
    inputs, size, padding = arguments["input"][rows], arguments["weight"].shape[2:], arguments["padding"]
    dilation = arguments["dilation"]
    if isinstance(padding, str):
        width = [d * (k - 1) if padding == "same" else 0 for d, k in zip(_pair(dilation), size, strict=True)]
        inputs = F.pad(inputs, (width[1] // 2, width[1] - width[1] // 2, width[0] // 2, width[0] - width[0] // 2))
        padding = 0
    return F.unfold(inputs, size, dilation, padding, arguments["stride"])


def _pair(value: int | list[int]) -> tuple[int, int]:
    both = [value, value] if isinstance(value, int) else [*value, *value]
    return both[0], both[1]


def _blocks(n_rows: int, numbers_per_row: int) -> Iterator[slice]:
    step = max(1, BLOCK_NUMBERS // numbers_per_row)
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))
