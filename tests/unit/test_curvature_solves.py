"""Every curvature's inverse against a dense matrix, and its fit: batches, interruption, storage, refusal."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from curvature_cases import conv_case, dense_solve, slow_row_gradients, traced, transformer_case
from torch import Tensor, nn
from torch.testing import assert_close

from forwardinf_core.errors import ModelError
from forwardinf_core.influence.curvature import exact
from forwardinf_core.influence.curvature.base import Curvature
from forwardinf_core.influence.curvature.conjugate_gradient import ConjugateGradient
from forwardinf_core.influence.curvature.diagonal import DiagonalCurvature, DiagonalFit
from forwardinf_core.influence.curvature.ekfac import EigenvalueFit, EkfacCurvature, FactorFit, fit_ekfac
from forwardinf_core.influence.curvature.exact import DualCurvature, DualFit, FisherCurvature, FisherFit
from forwardinf_core.influence.curvature.fitting import WEIGHT, Fit, fitted, gradient_sizes, sampled_rows
from forwardinf_core.influence.curvature.gradients import Layout
from forwardinf_core.influence.curvature.products import gradient_products, summed_products, weighted_gradients
from forwardinf_core.influence.curvature.subspace import (
    DIAGONAL_SHARE,
    BlendedCurvature,
    SubspaceCurvature,
    SubspaceFit,
    fit_blended,
)
from forwardinf_core.influence.graph import GraphNetwork
from forwardinf_core.influence.network import FullNetwork, Parameters, TensorRows
from forwardinf_core.influence.objective import Batch, Classification

DAMPING = 1e-3
CASES = pytest.mark.parametrize("name", ["convolutions", "transformer"])


@cache
def case(name: str) -> tuple[GraphNetwork, TensorRows, Tensor, list[Parameters]]:
    """Return a network, its rows, their gradients (n, p) and two queries that are no row's gradient."""
    network, rows = {"convolutions": conv_case, "transformer": transformer_case}[name]()
    gradients = slow_row_gradients(network, rows)
    mixture = torch.randn(2, len(rows), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(2, gradients.shape[1], dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    return network, rows, gradients, Layout.of(network.parameters).unflatten(mixture @ gradients + 0.1 * noise)


def solved(curvature: Curvature, queries: list[Parameters]) -> Tensor:
    return Layout.of(queries[0]).flatten(curvature.solve(queries, damping=DAMPING))


def expected_solution(name: str) -> Tensor:
    _, _, gradients, queries = case(name)
    return dense_solve(gradients, Layout.of(queries[0]).flatten(queries).T, DAMPING).T


@CASES
def test_the_dense_fisher_and_its_dual_equal_the_dense_inverse(name: str) -> None:
    network, rows, _, queries = case(name)
    fisher, dual = fitted(FisherFit(network), rows, 5), fitted(DualFit(network, len(rows)), rows, 5)
    assert_close(solved(fisher, queries), expected_solution(name))
    assert_close(solved(dual, queries), expected_solution(name))


@CASES
def test_the_diagonal_is_the_mean_of_squared_row_gradients(name: str) -> None:
    network, rows, gradients, queries = case(name)
    diagonal = fitted(DiagonalFit(network), rows, 5)
    squares = gradients.square().mean(0)
    assert_close(Layout.of(network.parameters).flatten([diagonal.diagonal])[0], squares)
    expected = Layout.of(queries[0]).flatten(queries) / (squares + DAMPING * squares.sum())
    assert_close(solved(diagonal, queries), expected)


@CASES
def test_forward_mode_and_weighted_products_equal_stored_gradients(name: str) -> None:
    network, rows, gradients, queries = case(name)
    layout = Layout.of(network.parameters)
    directions = layout.flatten(queries)
    products = gradient_products(network, rows.tensors, queries)
    assert_close(products, directions @ gradients.T)
    assert_close(layout.flatten(weighted_gradients(network, rows.tensors, products)), products @ gradients)
    assert_close(layout.flatten(summed_products(network, rows.tensors, queries)), products @ gradients)
    solver = ConjugateGradient(network, rows, mean_squared_norm=1.0, iterations=1, batch_size=5)
    assert_close(solver.fisher_products(directions), products @ gradients / len(rows))


@CASES
def test_conjugate_gradients_reach_the_dense_inverse_with_and_without_a_preconditioner(name: str) -> None:
    network, rows, gradients, queries = case(name)
    norm = float(gradients.square().sum(1).mean())
    subspace = fitted(SubspaceFit(network, fit_ekfac(network, rows), k=40), rows, 5)
    for preconditioner, iterations in ((None, 16), (subspace, 40)):
        solver = ConjugateGradient(
            network, rows, mean_squared_norm=norm, iterations=iterations, preconditioner=preconditioner
        )
        # float32 over 40 iterations; how it rounds depends on the number of threads
        assert_close(solved(solver, queries), expected_solution(name), rtol=1e-3, atol=1e-3)


def test_a_query_without_gradient_has_the_solution_zero() -> None:
    network, rows, _, queries = case("convolutions")
    nothing = {key: torch.zeros_like(value) for key, value in queries[0].items()}
    solver = ConjugateGradient(network, rows, mean_squared_norm=1.0, iterations=2)
    first, second = solver.solve([nothing, queries[1]], damping=DAMPING)
    assert not any(value.any() for value in first.values())
    assert any(value.any() for value in second.values())


@CASES
def test_ekfac_is_the_diagonal_of_the_exact_fisher_in_its_orthonormal_eigenbasis(name: str) -> None:
    network, rows, gradients, queries = case(name)
    ekfac = fit_ekfac(network, rows, batch_size=5)
    layout = Layout.of(network.parameters)
    rotated = torch.stack([ekfac.rotate(one) for one in layout.unflatten(gradients)])
    assert_close(rotated @ rotated.T, gradients @ gradients.T)  # a rotation
    assert_close(ekfac.diagonal, rotated.square().mean(0))
    assert_close(ekfac.mean_squared_norm, float(gradients.square().sum(1).mean()))
    restored = ekfac.restore(ekfac.rotate(queries[0]), queries[0])
    assert_close(restored, queries[0])


def test_the_bases_are_the_eigenvectors_of_the_factors_of_inputs_and_output_gradients() -> None:
    network, rows, _, _ = case("convolutions")
    bases = {basis.weight: basis for basis in fitted(FactorFit(network), rows, 5)}
    head = bases["head.weight"]
    outputs = network.outputs({}, rows.tensors)
    errors = Classification().output_gradients(outputs, rows.tensors)
    rotated = head.left.T @ (errors.T @ errors) @ head.left
    assert_close(rotated, rotated.diagonal().diag())
    assert bases["bn.weight"].left is None
    assert bases["bn.weight"].right is None


class ProductLosses(Classification):
    """A loss linear in the outputs, whose gradient is given: independent of the inputs when rows are a full grid."""

    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        return (outputs * batch["label"]).sum(1)


def test_ekfac_equals_the_exact_inverse_where_the_fisher_is_a_kronecker_product() -> None:
    torch.manual_seed(0)
    inputs, errors = torch.randn(6, 4, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    rows = TensorRows({"x": inputs.repeat_interleave(5, 0), "label": errors.repeat(6, 1)})
    network = traced(nn.Linear(4, 3).double(), rows.tensors["x"])
    network.objective = ProductLosses()
    gradients = slow_row_gradients(network, rows)
    queries = Layout.of(network.parameters).unflatten(torch.randn(2, gradients.shape[1], dtype=torch.float64))
    expected = dense_solve(gradients, Layout.of(queries[0]).flatten(queries).T, DAMPING).T
    assert_close(solved(fit_ekfac(network, rows), queries), expected)


@CASES
def test_the_subspace_of_all_coordinates_is_the_dense_inverse_of_the_levelled_fisher(name: str) -> None:
    network, rows, gradients, queries = case(name)
    subspace = fit_blended(network, rows, k=gradients.shape[1], batch_size=5).subspace
    weights = 1 / gradient_sizes(network, rows, 5)
    levelled = gradients * (weights / weights.mean()).sqrt().unsqueeze(1).to(gradients)
    expected = dense_solve(levelled, Layout.of(queries[0]).flatten(queries).T, DAMPING).T
    assert_close(solved(subspace, queries), expected)


@CASES
def test_the_blended_step_is_a_mean_of_both_with_the_same_slope(name: str) -> None:
    network, rows, _, queries = case(name)
    blended = fit_blended(network, rows, k=20, batch_size=5)
    flat = Layout.of(queries[0]).flatten(queries)
    dense = solved(blended.subspace, queries)
    diagonal = Layout.of(queries[0]).flatten(blended.subspace.ekfac.solve(queries, damping=DAMPING * DIAGONAL_SHARE))
    slopes = [(step * flat).sum(1, keepdim=True) for step in (dense, diagonal)]
    assert_close(solved(blended, queries), 0.4 * dense + 0.6 * diagonal * slopes[0] / slopes[1])
    nothing = {key: torch.zeros_like(value) for key, value in queries[0].items()}
    assert not any(value.any() for value in blended.solve([nothing], damping=DAMPING)[0].values())
    restored = BlendedCurvature.from_tensors(blended.tensors())
    assert_close(solved(restored, queries), solved(blended, queries))


@CASES
def test_the_subspace_of_all_coordinates_is_the_dense_inverse(name: str) -> None:
    network, rows, gradients, queries = case(name)
    fit = SubspaceFit(network, fit_ekfac(network, rows, batch_size=5), k=gradients.shape[1])
    assert_close(solved(fitted(fit, rows, 5), queries), expected_solution(name))


@CASES
def test_the_subspace_is_dense_on_the_strongest_coordinates_and_diagonal_elsewhere(name: str) -> None:
    network, rows, gradients, queries = case(name)
    ekfac = fit_ekfac(network, rows)
    subspace = fitted(SubspaceFit(network, ekfac, k=20), rows, 5)
    assert ekfac.diagonal[subspace.coordinates].min() >= ekfac.diagonal.topk(21).values[-1]
    rotated = torch.stack([ekfac.rotate(one) for one in Layout.of(network.parameters).unflatten(gradients)])
    fisher = rotated.square().mean(0).diag()
    chosen = subspace.coordinates
    fisher[chosen.unsqueeze(1), chosen] = rotated[:, chosen].T @ rotated[:, chosen] / len(rows)
    damped = fisher + DAMPING * fisher.trace() * torch.eye(len(fisher), dtype=fisher.dtype)
    expected = ekfac.restore(torch.linalg.solve(damped, ekfac.rotate(queries[0])), queries[0])
    assert_close(subspace.solve(queries[:1], damping=DAMPING)[0], expected)


def fits(network: GraphNetwork, n_rows: int) -> dict[str, Fit[object]]:
    rows = case("convolutions")[1]
    ekfac = fit_ekfac(network, rows)
    return {
        "diagonal": DiagonalFit(network),
        "fisher": FisherFit(network),
        "dual": DualFit(network, n_rows),
        "factors": FactorFit(network),
        "eigenvalues": EigenvalueFit(network, ekfac.bases),
        "subspace": SubspaceFit(network, ekfac, k=20),
    }


@pytest.mark.parametrize("kind", ["diagonal", "fisher", "dual", "factors", "eigenvalues", "subspace"])
def test_a_fit_resumed_from_stored_sums_is_bit_equal_and_leaves_its_state_alone(kind: str) -> None:
    network, rows, _, _ = case("convolutions")
    fit = fits(network, len(rows))[kind]
    straight = fit.accumulate(fit.accumulate(fit.start(), rows.batch(0, 5)), rows.batch(5, 12))
    kept = fit.accumulate(fit.start(), rows.batch(0, 5))
    stored = {name: value.clone() for name, value in kept.items()}
    resumed = fits(network, len(rows))[kind].accumulate(stored, rows.batch(5, 12))
    assert resumed.keys() == straight.keys()
    assert all(torch.equal(resumed[name], straight[name]) for name in straight)
    assert all(torch.equal(stored[name], kept[name]) for name in kept)


@pytest.mark.parametrize("kind", ["diagonal", "fisher", "dual", "eigenvalues", "subspace"])
def test_a_fit_does_not_depend_on_the_batch_size(kind: str) -> None:
    network, rows, _, queries = case("convolutions")
    fit = fits(network, len(rows))[kind]
    assert_close(solved(fitted(fit, rows, 12), queries), solved(fitted(fit, rows, 1), queries))


def test_the_factors_do_not_depend_on_the_batch_size() -> None:
    network, rows, _, queries = case("convolutions")
    assert_close(
        solved(fit_ekfac(network, rows, batch_size=12), queries),
        solved(fit_ekfac(network, rows, batch_size=1), queries),
    )


LOADERS: dict[str, Callable[[Parameters], Curvature]] = {
    "diagonal": DiagonalCurvature.from_tensors,
    "fisher": FisherCurvature.from_tensors,
    "dual": DualCurvature.from_tensors,
    "eigenvalues": EkfacCurvature.from_tensors,
    "subspace": SubspaceCurvature.from_tensors,
}


@pytest.mark.parametrize("kind", list(LOADERS))
def test_a_stored_curvature_solves_as_before_in_whatever_order_it_is_read(kind: str) -> None:
    network, rows, _, queries = case("convolutions")
    curvature = fitted(fits(network, len(rows))[kind], rows, 5)
    stored = curvature.tensors()
    assert all(isinstance(value, Tensor) for value in stored.values())
    loaded = LOADERS[kind](dict(sorted(stored.items(), reverse=True)))
    assert loaded.kind == curvature.kind
    assert loaded.mean_squared_norm == curvature.mean_squared_norm
    assert torch.equal(solved(loaded, queries), solved(curvature, queries))


def test_the_general_curvatures_accept_a_module_that_is_no_graph() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    x = torch.randn(10, 4, dtype=torch.float64)
    rows = TensorRows({"x": x, "label": torch.arange(10) % 3})
    network, graph = FullNetwork(module, Classification()), traced(module, x)
    gradients = slow_row_gradients(graph, rows)
    layout = Layout.of(network.parameters)
    queries = layout.unflatten(torch.randn(1, gradients.shape[1], dtype=torch.float64))
    expected = dense_solve(gradients, Layout.of(queries[0]).flatten(queries).T, DAMPING).T
    for curvature in (fitted(FisherFit(network), rows, 4), fitted(DualFit(network, 10), rows, 4)):
        assert_close(solved(curvature, queries), expected)
    products = [layout.flatten(summed_products(one, rows.tensors, queries)) for one in (network, graph)]
    assert_close(products[0], products[1])
    assert_close(fitted(DiagonalFit(network), rows, 4).diagonal, fitted(DiagonalFit(graph), rows, 4).diagonal)


def test_the_exact_inverse_refuses_what_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    network, _, gradients, _ = case("convolutions")
    with pytest.raises(ModelError, match="20,000 rows"):
        DualFit(network, 20_000)
    monkeypatch.setattr(exact, "MOST_PARAMETERS", 10)
    with pytest.raises(ModelError, match=f"{gradients.shape[1]} parameters"):
        FisherFit(network)


def test_sampled_rows_are_the_same_for_the_same_seed_and_read_in_order() -> None:
    rows = TensorRows({"x": torch.arange(50), "label": torch.arange(50) * 2})
    sizes = torch.rand(50, generator=torch.Generator().manual_seed(0)) + 0.01
    first, second = sampled_rows(rows, sizes, 20, seed=1), sampled_rows(rows, sizes, 20, seed=1)
    assert 19 <= len(first) <= 21
    batch = first.batch(0, len(first))
    assert torch.equal(batch["x"], second.batch(0, len(second))["x"])
    assert torch.equal(batch["x"], batch["x"].unique())
    assert torch.equal(batch["label"], batch["x"] * 2)
    assert torch.equal(first.batch(3, 7)["x"], batch["x"][3:7])
    assert sampled_rows(rows, sizes, 50, seed=1) is rows


def test_weighted_sums_over_sampled_rows_are_unbiased() -> None:
    rows = TensorRows({"x": torch.arange(50.0)})
    sizes = torch.rand(50, generator=torch.Generator().manual_seed(0)).square() + 0.01
    totals = []
    for seed in range(400):
        sample = sampled_rows(rows, sizes, 10, seed)
        batch = sample.batch(0, len(sample))
        totals.append(float((batch["x"] * batch[WEIGHT]).sum()))
    error = torch.tensor(totals).std() / 400**0.5
    assert abs(sum(totals) / 400 - float(rows.tensors["x"].sum())) < 4 * error


def test_row_weights_count_rows_several_times() -> None:
    network, rows, _, queries = case("convolutions")
    weights = torch.arange(1, 13)
    repeated = TensorRows({name: value.repeat_interleave(weights, 0) for name, value in rows.tensors.items()})
    weighted = TensorRows(rows.tensors | {WEIGHT: weights.double()})
    bases = fitted(FactorFit(network), repeated, 100)
    again = fitted(EigenvalueFit(network, bases), weighted, 5)
    assert_close(solved(again, queries), solved(fitted(EigenvalueFit(network, bases), repeated, 100), queries))


def test_gradient_sizes_are_norms_of_the_output_gradients_and_never_vanish() -> None:
    network, rows, _, _ = case("convolutions")
    outputs = network.outputs({}, rows.tensors)
    expected = network.objective.output_gradients(outputs, rows.tensors).norm(dim=1)
    assert_close(gradient_sizes(network, rows, 5), expected)
    fitted_rows = TensorRows(rows.tensors | {"label": outputs.argmax(1)})
    sure = {name: value * (100.0 if name.startswith("head") else 1.0) for name, value in network.parameters.items()}
    confident = conv_case()[0]
    confident.parameters = sure
    assert gradient_sizes(confident, fitted_rows, 5).min() > 0
