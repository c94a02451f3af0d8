"""How alike rows are, and where half-way through a network is."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from forwardinf_core.influence.curvature.head_factors import HeadFactorsFit
from forwardinf_core.influence.graph import whole_graph
from forwardinf_core.influence.head import FEATURES, HeadFisherFit, HeadNetwork
from forwardinf_core.influence.likeness import fitted_space
from forwardinf_core.influence.objective import Classification
from forwardinf_core.influence.probe import Probe, layers, middle_layer
from forwardinf_core.influence.self_influence import pair_influences, self_influences, solved_gradients
from forwardinf_core.models.baseline import Baseline, BaselineConfig

RTOL = 1e-4  # float32 sums against float64 ones


def small_network() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    module = Baseline(BaselineConfig(n_classes=3, channels=3, size=16, width=4)).eval()
    return module, {"x": torch.randn(6, 3, 16, 16), "label": torch.tensor([0, 1, 2, 0, 1, 2])}


def head_problem(n_classes: int = 3) -> tuple[HeadNetwork, dict[str, torch.Tensor]]:
    parameters = {"head.weight": torch.randn(n_classes, 5).double(), "head.bias": torch.randn(n_classes).double()}
    batch = {FEATURES: torch.randn(40, 5).double(), "label": torch.randint(n_classes, (40,))}
    return HeadNetwork(Classification(), parameters), batch


def test_layers_between_blocks_are_found_in_order_and_the_middle_one_is_a_map() -> None:
    module, batch = small_network()
    found = layers(whole_graph(module, Classification(), batch))
    depths = [layer.depth for layer in found]
    assert depths == sorted(depths)
    middle = middle_layer(whole_graph(module, Classification(), batch))
    assert middle is not None
    assert middle.node.meta["val"].ndim == 4
    assert abs(middle.depth - 0.5) == min(abs(depth - 0.5) for depth in depths)


def test_a_probe_reads_the_network_s_own_values_in_one_pass() -> None:
    module, batch = small_network()
    assert isinstance(module, Baseline)
    graph = whole_graph(module, Classification(), batch)
    found = Probe(graph, head="head", layer=middle_layer(graph))({"x": batch["x"]})
    with torch.inference_mode():
        halfway = module.block1(module.stem(batch["x"]))
        features = module.block3(module.block2(halfway)).mean((2, 3))
        expected = module(batch["x"])
    assert_close(found["outputs"], expected, rtol=RTOL, atol=1e-5)
    assert_close(found["features"], features, rtol=RTOL, atol=1e-5)
    assert_close(found["halfway"], nn.functional.adaptive_avg_pool2d(halfway, 4).flatten(1), rtol=RTOL, atol=1e-5)


def test_a_network_without_a_head_is_probed_without_features() -> None:
    module, batch = small_network()
    graph = whole_graph(module, Classification(), batch)
    assert set(Probe(graph, head=None, layer=None)({"x": batch["x"]})) == {"outputs"}


def test_whitened_rows_have_the_unit_covariance() -> None:
    rows = torch.randn(5_000, 4) @ torch.randn(4, 4) + 3
    space = fitted_space(rows, whiten=True, floor=0.0)
    assert space.scale is not None
    moved = (rows - space.mean) @ space.scale
    assert_close(moved.T @ moved / len(rows), torch.eye(4), rtol=1e-3, atol=1e-3)


def test_likeness_does_not_change_with_the_scale_of_a_row_about_the_mean() -> None:
    rows = torch.randn(50, 6)
    space = fitted_space(rows, whiten=True)
    stretched = space.mean + 3 * (rows - space.mean)
    assert_close(space.place(stretched), space.place(rows), rtol=RTOL, atol=1e-5)


def test_self_influence_is_the_closed_form_of_the_gradient_and_the_damped_fisher() -> None:
    network, batch = head_problem()
    fit = HeadFisherFit(network)
    fisher = fit.finish(fit.accumulate(fit.start(), batch))
    gradients = network.row_gradients(batch)
    matrix = gradients.T @ gradients / len(gradients)
    matrix += 1e-2 * gradients.square().sum(1).mean() * torch.eye(len(matrix))
    expected = torch.einsum("ni,ij,nj->n", gradients, torch.linalg.inv(matrix), gradients)
    assert_close(self_influences(network, batch, fisher, damping=1e-2), expected, rtol=RTOL, atol=1e-6)


@pytest.mark.parametrize("exact", [True, False])
def test_the_influence_of_a_row_on_itself_is_its_self_influence(exact: bool) -> None:
    network, batch = head_problem()
    fit = HeadFisherFit(network) if exact else HeadFactorsFit(network)
    solver = fit.finish(fit.accumulate(fit.start(), batch))  # type: ignore[arg-type]
    solved = solved_gradients(network, batch, solver, damping=1e-2)
    pairs = pair_influences(network, batch, solved)
    assert_close(pairs.diagonal(), self_influences(network, batch, solver, damping=1e-2), rtol=RTOL, atol=1e-6)
    assert_close(pairs, pairs.T, rtol=1e-3, atol=1e-5)
