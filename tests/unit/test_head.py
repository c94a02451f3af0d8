"""The head's closed forms against autograd, dense matrices and exact leave-one-out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor
from torch.func import grad, vmap
from torch.testing import assert_close

from forwardinf_core.errors import ModelError
from forwardinf_core.influence import head as head_module
from forwardinf_core.influence.curvature.fitting import fitted
from forwardinf_core.influence.curvature.head_factors import HeadConjugateGradient, HeadFactors, HeadFactorsFit
from forwardinf_core.influence.head import HeadFisher, HeadFisherFit, HeadNetwork, score_many
from forwardinf_core.influence.network import Parameters, TensorRows, losses
from forwardinf_core.influence.objective import Batch, Classification

N, D, C = 60, 7, 4
FLOAT64 = {"rtol": 1e-9, "atol": 1e-12}
FLOAT32 = {"rtol": 1e-4, "atol": 1e-6}


def problem(
    dtype: torch.dtype = torch.float64, *, n: int = N, d: int = D, c: int = C, bias: bool = True
) -> tuple[HeadNetwork, Batch]:
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    parameters = {"top.weight": random(c, d)} | ({"top.bias": random(c)} if bias else {})
    batch = {"features": random(n, d) + 0.5, "label": torch.randint(c, (n,), generator=generator)}
    return HeadNetwork(Classification(), parameters), batch


def stacked(network: HeadNetwork, items: list[Parameters]) -> Tensor:
    return torch.stack([network.names.matrix(one).flatten() for one in items])


def queries_of(network: HeadNetwork, batch: Batch, count: int) -> list[Parameters]:
    shape = network.names.matrix(network.parameters).shape
    return [network.names.parameters(row.view(shape)) for row in network.row_gradients(batch)[:count]]


@pytest.mark.parametrize("bias", [True, False])
def test_row_gradients_equal_autograd(bias: bool) -> None:
    network, batch = problem(bias=bias)

    def loss(parameters: Parameters, row: Batch) -> Tensor:
        return losses(network, parameters, {name: value.unsqueeze(0) for name, value in row.items()})[0]

    found = vmap(grad(loss), in_dims=(None, 0))(network.parameters, batch)
    expected = [{name: value[row] for name, value in found.items()} for row in range(N)]
    assert_close(network.row_gradients(batch), stacked(network, expected), **FLOAT64)


@pytest.mark.parametrize("scale", [1e-6, 1e-2, 1.0, 30.0, 300.0])
@pytest.mark.parametrize("queries", [1, 3])
def test_scores_of_many_changes_equal_the_objectives_loss_changes(
    scale: float, queries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_module, "BLOCK_NUMBERS", 50)  # several blocks
    network, batch = problem(torch.float32)
    base = 5 * network.outputs({}, batch)
    generator = torch.Generator().manual_seed(1)
    weights = scale * torch.randn(queries, C, D, generator=generator)
    biases = scale * torch.randn(queries, C, generator=generator)
    found = score_many(batch["features"], base, batch["label"], weights, biases)
    for query in range(queries):
        change = batch["features"] @ weights[query].T + biases[query]
        expected = Classification().loss_changes(base.double(), change.double(), batch).float()
        assert_close(found[:, query], expected, rtol=2e-4, atol=1e-6 * scale)


def test_an_unchanged_head_scores_exactly_zero() -> None:
    network, batch = problem(torch.float32)
    scores = score_many(batch["features"], network.outputs({}, batch), batch["label"], torch.zeros(2, C, D))
    assert torch.equal(scores, torch.zeros(N, 2))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("damping", [1e-1, 1e-4, 1e-6])
def test_the_exact_fisher_solves_as_a_dense_matrix_does(bias: bool, damping: float) -> None:
    network, batch = problem(bias=bias)
    curvature = fitted(HeadFisherFit(network), TensorRows(batch), batch_size=23)
    gradients = network.row_gradients(batch)
    fisher = gradients.T @ gradients / N
    assert curvature.mean_squared_norm == pytest.approx(float(gradients.square().sum(1).mean()))
    assert_close(curvature.matrix, fisher, **FLOAT64)
    damped = fisher + damping * fisher.trace() * torch.eye(len(fisher), dtype=fisher.dtype)
    expected = torch.linalg.solve(damped, gradients[:3].T).T
    found = curvature.solve(queries_of(network, batch, 3), damping=damping)
    assert_close(stacked(network, found), expected, rtol=1e-7, atol=1e-9)


def test_a_float32_fisher_with_a_float32_factor_stays_near_the_float64_solution(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(head_module, "CHEAP_IN_FLOAT64", 0)
    network, batch = problem(torch.float32)
    curvature = fitted(HeadFisherFit(network), TensorRows(batch), batch_size=23)
    gradients = network.row_gradients(batch).double()
    fisher = gradients.T @ gradients / N
    for damping in (1e-2, 1e-3, 1e-4):
        damped = fisher + damping * fisher.trace() * torch.eye(len(fisher), dtype=torch.float64)
        expected = torch.linalg.solve(damped, gradients[0])
        (found,) = curvature.solve(queries_of(network, batch, 1), damping=damping)
        error = (stacked(network, [found])[0].double() - expected).norm() / expected.norm()
        assert error < 1e-6 / damping


def test_a_fit_that_was_stored_and_resumed_is_bit_equal() -> None:
    network, batch = problem(torch.float32)
    rows = TensorRows(batch)
    fit = HeadFisherFit(network)
    state = fit.accumulate(fit.start(), rows.batch(0, 20))
    state = {name: value.clone() for name, value in state.items()}  # as read back from disk
    resumed = fit.finish(fit.accumulate(fit.accumulate(state, rows.batch(20, 40)), rows.batch(40, 60)))
    whole = fitted(HeadFisherFit(network), rows, batch_size=20)
    assert torch.equal(resumed.matrix, whole.matrix)
    again = HeadFisher.from_tensors(whole.tensors())
    assert (again.kind, again.names, again.mean_squared_norm) == (whole.kind, whole.names, whole.mean_squared_norm)
    assert torch.equal(again.matrix, whole.matrix)


def test_the_hessian_equals_that_of_autograd() -> None:
    network, batch = problem()
    l2 = 0.03
    curvature = fitted(HeadFisherFit(network, kind="hessian", l2=l2), TensorRows(batch), batch_size=23)

    def loss(flat: Tensor) -> Tensor:
        parameters = network.names.parameters(flat.view(C, D + 1))
        return losses(network, parameters, batch).mean() + l2 / 2 * parameters["top.weight"].square().sum()

    flat = network.names.matrix(network.parameters).flatten()
    assert_close(curvature.matrix, torch.autograd.functional.hessian(loss, flat), **FLOAT64)


def test_a_matrix_that_cannot_be_inverted_is_refused_with_a_sentence() -> None:
    network, batch = problem()
    curvature = fitted(HeadFisherFit(network), TensorRows(batch), batch_size=60)
    curvature.matrix.neg_()
    with pytest.raises(ModelError, match="larger"):
        curvature.solve(queries_of(network, batch, 1), damping=1e-3)


def test_a_head_too_large_for_a_matrix_is_refused() -> None:
    network, _ = problem(d=100, c=70)
    with pytest.raises(ModelError, match="7,070 parameters"):
        HeadFisherFit(network)


@pytest.mark.parametrize("bias", [True, False])
def test_conjugate_gradients_reach_the_dense_solution(bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forwardinf_core.influence.curvature.head_factors.PRODUCT_NUMBERS", 100)  # several blocks
    network, batch = problem(bias=bias)
    rows = TensorRows(batch)
    factors = fitted(HeadFactorsFit(network), rows, batch_size=23)
    dense = fitted(HeadFisherFit(network), rows, batch_size=23)
    assert factors.mean_squared_norm == pytest.approx(dense.mean_squared_norm)
    base = network.outputs({}, batch)
    iterative = HeadConjugateGradient(network, rows, base, preconditioner=factors, iterations=60)
    gradients = queries_of(network, batch, 3)
    expected = stacked(network, dense.solve(gradients, damping=1e-3))
    found = stacked(network, iterative.solve(gradients, damping=1e-3))
    assert_close(found, expected, rtol=1e-6, atol=1e-8)


def test_the_factors_are_exact_where_residuals_and_features_are_independent() -> None:
    """One class direction only: every residual is a multiple of one vector, so F is a Kronecker product."""
    network, batch = problem(c=2)
    rows = TensorRows(batch)
    factors = HeadFactors.from_tensors(fitted(HeadFactorsFit(network), rows, batch_size=23).tensors())
    dense = fitted(HeadFisherFit(network), rows, batch_size=23)
    gradients = queries_of(network, batch, 3)
    expected = stacked(network, dense.solve(gradients, damping=1e-3))
    assert_close(stacked(network, factors.solve(gradients, damping=1e-3)), expected, rtol=1e-7, atol=1e-9)


N_DIGITS, N_LEFT_OUT = 200, 40
PENALTY = 0.01  # l2 of the mean loss, as in the paper's convex recipe: C = 1 / (0.01 n)


@pytest.fixture(scope="module")
def digits() -> tuple[Batch, Batch]:
    """Return training rows and ten test rows of scikit-learn's digits, in float64."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))[: N_DIGITS + 10]
    features, label = torch.from_numpy(images[order] / 16.0), torch.from_numpy(labels[order]).long()
    train = {"features": features[:N_DIGITS], "label": label[:N_DIGITS]}
    return train, {"features": features[N_DIGITS:], "label": label[N_DIGITS:]}


def logistic_regression(rows: Batch, kept: np.ndarray) -> HeadNetwork:
    from sklearn.linear_model import LogisticRegression

    strength = 1 / (PENALTY * N_DIGITS)  # the same penalty whether a row is left out or not
    model = LogisticRegression(C=strength, max_iter=2000, tol=1e-10)
    model.fit(rows["features"].numpy()[kept], rows["label"].numpy()[kept])
    parameters = {"top.weight": torch.from_numpy(model.coef_), "top.bias": torch.from_numpy(model.intercept_)}
    return HeadNetwork(Classification(), parameters)


def test_a_tiny_newton_step_ranks_rows_as_exact_leave_one_out_does(digits: tuple[Batch, Batch]) -> None:
    train, test = digits
    network = logistic_regression(train, np.arange(N_DIGITS))
    fit = HeadFisherFit(network, kind="hessian", l2=PENALTY)
    curvature = fitted(fit, TensorRows(train), batch_size=100)
    query = {name: value[losses(network, {}, test).argmax()].unsqueeze(0) for name, value in test.items()}
    gradient = queries_of(network, query, 1)
    (direction,) = curvature.solve(gradient, damping=1e-9)  # only for the bias, whose common shift has no curvature

    eta = 1e-6
    weight, bias = direction["top.weight"], direction["top.bias"]
    base = network.outputs({}, train)
    stepped = score_many(train["features"], base, train["label"], eta * weight[None], eta * bias[None])[:, 0] / eta
    closed_form = network.row_gradients(train) @ network.names.matrix(direction).flatten()
    assert_close(stepped, closed_form, rtol=1e-3, atol=1e-5)

    rows = np.argsort(-np.abs(closed_form.numpy()))[:: N_DIGITS // N_LEFT_OUT]
    before = float(losses(network, {}, query))
    effect = []  # positive: without the row the query's loss is higher, so the row helped
    for row in rows:
        without = logistic_regression(train, np.delete(np.arange(N_DIGITS), row))
        effect.append(float(losses(without, {}, query)) - before)
    assert spearmanr(effect, closed_form.numpy()[rows]).statistic >= 0.99
    assert spearmanr(effect, stepped.numpy()[rows]).statistic >= 0.99
