"""A network cut into trunk and tail is the same network, for any batch, derivative and way of being called."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap
from torch.testing import assert_close

from forwardinf_core.errors import ModelError
from forwardinf_core.influence.graph import GraphNetwork, whole_graph
from forwardinf_core.influence.network import FullNetwork, losses
from forwardinf_core.influence.objective import Batch, Classification
from forwardinf_core.influence.split import Split, cut, split
from forwardinf_core.models.baseline import Baseline, BaselineConfig

RTOL = 1e-5  # float32 round-off of a few layers
ATOL = 1e-6
N_CLASSES = 4
Case = tuple[nn.Module, Batch, tuple[str, ...]]


class Functional(nn.Module):
    """What an adapter may hold: functional calls, a dict as output, a bare parameter, in-place steps."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.shift = nn.Parameter(torch.randn(8))
        self.second = nn.Linear(8, 8, bias=False)
        self.last = nn.Linear(16, N_CLASSES)
        self.register_buffer("scale", torch.rand(8))
        self.unused = nn.Linear(2, 2)

    def forward(self, values: Tensor, mask: Tensor) -> dict[str, Tensor]:
        n = values.shape[0]
        hidden = self.first(values).mul_(self.scale)
        hidden.relu_()
        weights = mask.float().unsqueeze(1).expand(n, 8, 6).mean(2)  # made of an input alone, larger than it
        moved = torch.tanh(self.second(hidden + self.shift)) * weights
        rows = torch.arange(n)
        picked = torch.cat([hidden, moved], 1)[rows].view(n, 2, 8).flatten(1)
        return Outputs(logits=self.last(picked))


class Outputs(dict[str, Tensor]):
    """A dict whose entries are attributes, as model libraries return."""

    def __getattr__(self, name: str) -> Tensor:
        return self[name]


def images(n_rows: int, size: int = 16) -> Tensor:
    return torch.randn(n_rows, 3, size, size, generator=torch.Generator().manual_seed(n_rows))


def labels(n_rows: int) -> Tensor:
    return torch.arange(n_rows) % N_CLASSES


def baseline() -> Case:
    module = Baseline(BaselineConfig(N_CLASSES, width=4))
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.5, 2.0)
    return module, {"x": images(7), "label": labels(7)}, ("block3", "head")


def adapter() -> Case:
    generator = torch.Generator().manual_seed(0)
    batch = {"values": torch.randn(7, 6, generator=generator), "mask": torch.rand(7, 6, generator=generator) > 0.5}
    return Functional(), batch | {"label": labels(7)}, ("shift", "second", "last")


def vit() -> Case:
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    module = ViTForImageClassification(ViTConfig(image_size=16, patch_size=8, num_labels=N_CLASSES, **sizes))
    return module, {"pixel_values": images(7), "label": labels(7)}, ("vit.layers.1", "vit.layernorm", "classifier")


def resnet() -> Case:
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 8], depths=[1, 2], layer_type="basic", num_labels=N_CLASSES
    )
    tail = ("resnet.encoder.stages.1.layers.1", "classifier")
    return ResNetForImageClassification(config), {"pixel_values": images(7, 32), "label": labels(7)}, tail


def convnext() -> Case:
    from transformers import ConvNextConfig, ConvNextForImageClassification

    config = ConvNextConfig(hidden_sizes=[4, 8], depths=[1, 2], num_stages=2, num_labels=N_CLASSES)
    tail = ("convnext.encoder.stages.1.layers.1", "convnext.layernorm", "classifier")
    return ConvNextForImageClassification(config), {"pixel_values": images(7), "label": labels(7)}, tail


def exported() -> Case:
    module, batch, tail = baseline()
    rows = torch.export.Dim("rows")
    program = torch.export.export(module.eval(), (batch["x"],), dynamic_shapes=({0: rows},))
    return program, batch, tail  # type: ignore[return-value]  # a program is accepted in the place of a module


CASES: list[Callable[[], Case]] = [baseline, adapter, vit, resnet, convnext, exported]


@dataclass(frozen=True)
class Prepared:
    """A module with its whole graph and its parts, exported once for all tests."""

    module: nn.Module
    batch: Batch
    network: GraphNetwork
    parts: Split


@functools.cache
def prepared(make: Callable[[], Case]) -> Prepared:
    torch.manual_seed(0)
    module, batch, tail = make()
    if isinstance(module, nn.Module):
        module.eval()
    network = whole_graph(module, Classification(), batch)
    runnable = module if isinstance(module, nn.Module) else torch.export.unflatten(module)
    return Prepared(runnable, batch, network, cut(network, tail))


@pytest.fixture(params=CASES, ids=lambda case: case.__name__)
def case(request: pytest.FixtureRequest) -> Prepared:
    return prepared(request.param)


def first_rows(batch: Batch, n_rows: int) -> Batch:
    return {name: value[:n_rows] for name, value in batch.items()}


@pytest.mark.parametrize("n_rows", [1, 2, 7])
def test_trunk_and_tail_together_are_the_module(case: Prepared, n_rows: int) -> None:
    module, batch, parts = case.module, case.batch, case.parts
    rows = first_rows(batch, n_rows)
    with torch.no_grad():
        assert_close(
            parts.tail.outputs({}, parts.trunk(rows)), Classification().outputs(module, rows), rtol=RTOL, atol=ATOL
        )


def test_kept_activations_have_one_entry_a_row_and_can_be_mixed(case: Prepared) -> None:
    module, batch, parts = case.module, case.batch, case.parts
    kept = parts.trunk(batch)
    assert set(kept) == {*parts.tail.inputs, "label"}
    assert all(len(value) == 7 and not value.is_inference() for value in kept.values())
    order = torch.tensor([5, 0, 3])
    mixed = parts.tail.outputs({}, {name: value[order] for name, value in kept.items()})
    expected = Classification().outputs(module, {name: value[order] for name, value in batch.items()})
    assert_close(mixed, expected, rtol=RTOL, atol=ATOL)


def test_a_moved_tail_equals_the_whole_module_with_those_parameters(case: Prepared) -> None:
    module, batch, parts = case.module, case.batch, case.parts
    generator = torch.Generator().manual_seed(1)
    noise = {n: 0.1 * torch.randn(v.shape, generator=generator) for n, v in parts.tail.parameters.items()}
    moved = {name: value + noise[name] for name, value in parts.tail.parameters.items()}

    def call(*args: Any, **kwargs: Any) -> object:
        return functional_call(module, moved, args, kwargs)

    expected = Classification().outputs(call, batch)
    assert_close(parts.tail.outputs(moved, parts.trunk(batch)), expected, rtol=RTOL, atol=ATOL)
    some = dict(list(moved.items())[:1])
    assert_close(
        parts.tail.outputs(some, parts.trunk(batch)),
        parts.tail.outputs(parts.tail.parameters | some, parts.trunk(batch)),
        rtol=0,
        atol=0,
    )


def test_row_gradients_of_the_tail_equal_autograd_through_the_module(case: Prepared) -> None:
    module, batch, parts = case.module, case.batch, case.parts
    tail, kept = parts.tail, parts.trunk(batch)
    gradients = vmap(grad(loss_of_row), in_dims=(None, None, 0))(tail.parameters, tail, kept)
    leaves = {name: value.clone().requires_grad_() for name, value in tail.parameters.items()}
    network = FullNetwork(module, Classification(), [])
    for row, loss in enumerate(losses(network, leaves, batch)):
        expected = torch.autograd.grad(loss, list(leaves.values()), retain_graph=True)
        for name, value in zip(leaves, expected, strict=True):
            assert_close(gradients[name][row], value, rtol=1e-4, atol=1e-6)


def test_forward_mode_products_equal_stored_gradients(case: Prepared) -> None:
    batch, parts = case.batch, case.parts
    tail, kept = parts.tail, parts.trunk(batch)
    generator = torch.Generator().manual_seed(2)
    change = {name: torch.randn(v.shape, generator=generator) for name, v in tail.parameters.items()}
    gradients = vmap(grad(loss_of_row), in_dims=(None, None, 0))(tail.parameters, tail, kept)
    expected = sum((gradients[name] * change[name]).flatten(1).sum(1) for name in change)
    _, products = jvp(lambda parameters: losses(tail, parameters, kept), (tail.parameters,), (change,))
    assert_close(products, expected, rtol=1e-4, atol=1e-5)


def test_the_whole_graph_is_the_module_and_moves_every_parameter_it_uses(case: Prepared) -> None:
    module, batch, network = case.module, case.batch, case.network
    assert set(network.inputs) == set(batch) - {"label"}
    assert set(network.parameters) == {n for n, _ in module.named_parameters() if not n.startswith("unused")}
    assert_close(network.outputs({}, batch), Classification().outputs(module, batch), rtol=RTOL, atol=ATOL)


def test_a_tail_can_be_cut_again_at_its_head(case: Prepared) -> None:
    batch, parts = case.batch, case.parts
    head = list(parts.tail.parameters)[-1].rpartition(".")[0]
    again = cut(parts.tail, [head])
    kept = parts.trunk(batch)
    features = again.trunk(kept)
    (name,) = again.tail.inputs
    assert features[name].ndim == 2
    assert set(features) == {name, "label"}
    assert_close(again.tail.outputs({}, features), parts.tail.outputs({}, kept), rtol=RTOL, atol=ATOL)


def test_layers_stay_whole_in_the_graph() -> None:
    of_vit, of_baseline = targets_of(prepared(vit).parts.tail), targets_of(prepared(baseline).parts.tail)
    assert {"aten.linear.default", "aten.layer_norm.default", "aten.gelu.default"} <= of_vit
    assert {"aten.conv2d.default", "aten.batch_norm.default", "aten.linear.default"} <= of_baseline


def test_an_unmoved_forward_pass_is_bit_equal_with_and_without_inference_mode() -> None:
    parts = prepared(vit).parts
    kept = parts.trunk(prepared(vit).batch)
    with torch.no_grad():
        plain = parts.tail.outputs({}, kept)
    with torch.inference_mode():
        assert torch.equal(parts.tail.outputs({}, kept), plain)


def test_values_made_of_inputs_alone_are_not_kept_where_the_inputs_are_smaller() -> None:
    parts = prepared(adapter).parts
    assert "mask" in parts.tail.inputs
    assert "values" not in parts.trunk(prepared(adapter).batch)


def test_a_split_leaves_weights_and_mode_of_the_module_as_they_were() -> None:
    module, batch, tail = adapter()
    module.eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    parts = split(module, Classification(), batch, tail)
    parts.tail.outputs({"last.bias": torch.ones(N_CLASSES)}, parts.trunk(batch))
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not module.training


def test_an_unknown_module_name_is_answered_with_near_ones() -> None:
    with pytest.raises(ModelError, match=r"no module 'block9'.*block3"):
        cut(prepared(baseline).network, ["block9"])


class FixedRows(nn.Module):
    """Works for its own batch size only."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(x.view(5, 6))
        return logits


class MixedRows(FixedRows):
    """Lets rows influence each other before its tail."""

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(x - x.mean(0))
        return logits


class DataDependent(FixedRows):
    """Takes a branch that depends on the values."""

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(x)
        return logits if logits.sum() > 0 else -logits


@pytest.mark.parametrize(
    ("module", "sentence"),
    [
        (FixedRows(), "batches of one size only"),
        (MixedRows(), "cannot be run by itself"),
        (DataDependent(), "cannot be turned into a graph"),
    ],
)
def test_a_module_that_cannot_be_cut_is_refused_with_a_sentence(module: nn.Module, sentence: str) -> None:
    batch = {"x": torch.randn(4, 6), "label": labels(4)}
    with pytest.raises(ModelError, match=sentence):
        split(module.eval(), Classification(), batch, ["linear"])


def test_a_module_in_train_mode_is_noticed() -> None:
    module = nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5), nn.Linear(6, N_CLASSES)).train()
    with pytest.raises(ModelError, match="eval mode"):
        split(module, Classification(), {"x": torch.randn(4, 6), "label": labels(4)}, ["2"])


def loss_of_row(parameters: dict[str, Tensor], network: GraphNetwork, row: Batch) -> Tensor:
    return losses(network, parameters, {name: value.unsqueeze(0) for name, value in row.items()})[0]


def targets_of(network: GraphNetwork) -> set[str]:
    return {str(node.target) for node in network.graph_module.graph.nodes if node.op == "call_function"}
