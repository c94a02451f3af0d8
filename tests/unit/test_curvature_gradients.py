"""Row gradients from one backward pass, against one autograd call for each row."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from curvature_cases import TinyConvNet, conv_case, random_rows_of, slow_row_gradients, traced, transformer_case
from torch import Tensor, nn
from torch.testing import assert_close

from forwardinf_core.errors import ModelError
from forwardinf_core.influence.curvature.gradients import (
    Layout,
    recorded_gradients,
    row_gradients,
    vectorised_gradients,
)
from forwardinf_core.influence.curvature.layers import Side, layers_of, nodes_of, squared_row_gradients
from forwardinf_core.influence.curvature.layers import row_gradients as layer_gradients
from forwardinf_core.influence.curvature.products import summed_products
from forwardinf_core.influence.curvature.taps import record
from forwardinf_core.influence.graph import GraphNetwork
from forwardinf_core.influence.network import TensorRows

Case = Callable[[], tuple[GraphNetwork, TensorRows]]
CASES = pytest.mark.parametrize(
    "case",
    [conv_case, transformer_case, partial(transformer_case, padding=0)],
    ids=["convolutions", "transformer", "transformer with padding"],
)


@CASES
def test_recorded_and_vectorised_row_gradients_equal_autograd_row_by_row(case: Case) -> None:
    network, rows = case()
    expected = slow_row_gradients(network, rows)
    layout = Layout.of(network.parameters)
    assert_close(recorded_gradients(network, rows.tensors, layers_of(network), layout), expected)
    assert_close(vectorised_gradients(network, rows.tensors, layout), expected)
    assert_close(torch.cat(list(row_gradients(network, rows.tensors))), expected)


@CASES
def test_rotated_row_gradients_equal_rotating_the_dense_ones(case: Case) -> None:
    network, rows = case()
    layers = layers_of(network)
    recording = record(network, rows.tensors, nodes_of(layers))
    for layer in layers:
        weight = network.parameters[layer.weight]
        dense = torch.cat([block for _, block in layer_gradients(layer, weight, recording, (Side(), Side()))])
        left, right = (torch.randn(size, size, dtype=torch.float64) for size in layer.shape)
        one_hot = layer.weight.startswith(("tokens", "positions"))
        sides = Side() if one_hot or not layer.is_factored else Side(left), Side(right) if layer.is_factored else Side()
        expected = sides[1].of(sides[0].of(dense.transpose(1, 2)).transpose(1, 2))
        found = torch.cat([block for _, block in layer_gradients(layer, weight, recording, sides)])
        assert_close(found, expected)
        assert_close(squared_row_gradients(layer, weight, recording, sides), expected.square().sum(0))
        kept = torch.arange(layer.shape[0])[::2], torch.arange(layer.shape[1])[1::2]
        picked = sides[0].at(kept[0]), sides[1].at(kept[1])
        found = torch.cat([block for _, block in layer_gradients(layer, weight, recording, picked)])
        assert_close(found, expected[:, kept[0]][:, :, kept[1]])


def test_a_bias_is_folded_into_its_layer() -> None:
    layers = {layer.weight: layer.bias for layer in layers_of(conv_case()[0])}
    assert layers["conv1.weight"] == "conv1.bias"
    assert layers["head.weight"] == "head.bias"
    assert layers["conv2.weight"] is None
    assert layers["grouped.bias"] is None  # a lone bias: grouped convolutions keep their axes


def test_a_bias_may_move_without_its_weight() -> None:
    torch.manual_seed(0)
    x = torch.randn(9, 2, 7, 6, dtype=torch.float64)
    network = traced(TinyConvNet().double(), x, ["conv1.bias", "head.bias", "bn.weight"])
    rows = random_rows_of(x, 3)
    assert_close(torch.cat(list(row_gradients(network, rows.tensors))), slow_row_gradients(network, rows))


class Modulated(nn.Module):
    """A table that every row shares, put in front of the rows as ``table[None]``: the way PixArt keeps its shifts."""

    def __init__(self, axis: int = 0) -> None:
        super().__init__()
        self.axis = axis
        self.table = nn.Parameter(torch.randn(2, 4))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        shift, scale = (self.table.unsqueeze(self.axis) + x.unsqueeze(1)).chunk(2, dim=1)
        return self.head((x.unsqueeze(1) * (1 + scale) + shift).squeeze(1))


@pytest.mark.parametrize("axis", [0, -3])
def test_a_table_shared_by_the_rows_has_the_gradients_of_autograd(axis: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(6, 4, dtype=torch.float64)
    network, rows = traced(Modulated(axis).double(), x), random_rows_of(x, 3)
    layout = Layout.of(network.parameters)
    found = recorded_gradients(network, rows.tensors, layers_of(network), layout)
    assert_close(found, slow_row_gradients(network, rows))


class Powers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.exponent = nn.Parameter(torch.ones(4))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.abs() ** self.exponent)


class Mixing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x) - self.head(x).mean(0)


def test_a_parameter_without_a_known_role_is_refused_by_name() -> None:
    network = traced(Powers(), torch.randn(6, 4))
    with pytest.raises(ModelError, match="exponent"):
        layers_of(network)


def test_rows_that_influence_each_other_are_refused() -> None:
    rows = random_rows_of(torch.randn(6, 4), 3)
    network = traced(Mixing(), rows.tensors["x"])
    with pytest.raises(ModelError, match="influence each other"):
        list(row_gradients(network, rows.tensors))


@CASES
def test_fisher_products_equal_stored_gradients_also_where_a_tied_padding_row_is_masked(case: Case) -> None:
    network, rows = case()
    gradients = slow_row_gradients(network, rows)
    layout = Layout.of(network.parameters)
    changes = layout.unflatten(torch.randn(2, gradients.shape[1], dtype=torch.float64))
    products = layout.flatten(summed_products(network, rows.tensors, changes))
    assert_close(products, layout.flatten(changes) @ gradients.T @ gradients)
