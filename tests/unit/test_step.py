"""The mirrored step: gradients, optimisers, curvature, calibration, and whose weights it may touch."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny_problems import DenseFisher, classifier, digest, flat, regression, row, row_gradients
from torch import nn

from forwardinf_core.errors import AuditError, ModelError
from forwardinf_core.influence.network import FullNetwork, Parameters, losses, moved
from forwardinf_core.influence.objective import Batch, Classification
from forwardinf_core.influence.scoring import score_batch
from forwardinf_core.influence.step import query_gradient, take_steps
from forwardinf_core.influence.update import StepOptions, Update, moved_parameters

RAW_SGD = StepOptions("sgd", rise=None, learning_rate=1.0, unsaturated=False)
DIRECTIONS = ("ascent", "descent", "central")


def mean_rise(network: FullNetwork, query: Batch, update: Update) -> float:
    def unsaturated(parameters: Parameters) -> float:
        return float(network.objective.unsaturated_losses(network.outputs(parameters, query), query).mean())

    base = unsaturated(network.parameters)
    up = unsaturated(moved_parameters(network, update)) - base
    down = unsaturated(moved_parameters(network, update, -1.0)) - base
    return {"ascent": up, "descent": -down, "central": (up - down) / 2}[update.direction]


def test_the_gradient_of_a_quadratic_is_the_residual_times_the_input() -> None:
    network, rows = regression()
    query = row(rows, 3)
    loss, gradient = query_gradient(network, query, unsaturated=False)
    residual = network.outputs(network.parameters, query) - query["y"]
    assert loss == pytest.approx(0.5 * residual.item() ** 2, rel=1e-12)
    torch.testing.assert_close(gradient["weight"], residual * query["x"])


@pytest.mark.parametrize("unsaturated", [True, False])
def test_the_gradient_of_a_set_is_the_sum_of_single_gradients(unsaturated: bool) -> None:
    network, rows = classifier(torch.float64)
    query = {name: value[:5] for name, value in rows.items()}
    loss, gradient = query_gradient(network, query, unsaturated=unsaturated)
    singles = [query_gradient(network, row(rows, i), unsaturated=unsaturated) for i in range(5)]
    assert loss == pytest.approx(sum(single[0] for single in singles), rel=1e-12)
    for name, value in gradient.items():
        torch.testing.assert_close(value, sum(single[1][name] for single in singles))


def test_one_sgd_step_is_the_learning_rate_times_the_gradient() -> None:
    network, rows = classifier(torch.float64)
    (update,) = take_steps(network, [row(rows, 0)], StepOptions("sgd", rise=None, learning_rate=0.25))
    gradient = query_gradient(network, row(rows, 0))[1]
    for name, change in update.changes.items():
        torch.testing.assert_close(change, 0.25 * gradient[name], rtol=0, atol=0)


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("direction", ["ascent", "descent"])
@pytest.mark.parametrize("method", ["sgd", "adam"])
def test_steps_equal_those_of_the_torch_optimiser(method: str, direction: str, steps: int) -> None:
    network, rows = classifier(torch.float64)
    query = {name: value[:3] for name, value in rows.items()}
    options = StepOptions(method, direction, steps, 0.01, None, unsaturated=False)  # type: ignore[arg-type]
    (update,) = take_steps(network, [query], options)

    twin = copy.deepcopy(network.module)
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[method]
    optimiser = kind(twin.parameters(), lr=0.01, maximize=direction == "ascent")
    for _ in range(steps):
        optimiser.zero_grad()
        nn.functional.cross_entropy(twin(query["x"]), query["label"], reduction="sum").backward()
        optimiser.step()
    reached = moved_parameters(network, update, 1.0 if direction == "ascent" else -1.0)
    for name, value in twin.named_parameters():
        torch.testing.assert_close(reached[name], value.detach(), rtol=1e-12, atol=1e-14)


def test_one_adam_step_moves_every_weight_by_the_learning_rate_along_the_sign() -> None:
    network, rows = classifier(torch.float64)
    (update,) = take_steps(network, [row(rows, 0)], StepOptions("adam", rise=None, learning_rate=1e-3))
    gradient = flat(query_gradient(network, row(rows, 0))[1])
    large = gradient.abs() > 1e-4  # below, Adam's ε = 1e-8 shows at 1e-4 of the step
    torch.testing.assert_close(flat(update.changes)[large], 1e-3 * gradient.sign()[large], rtol=1e-4, atol=0)


def test_a_curvature_step_is_the_damped_inverse_times_the_gradient_for_all_queries_in_one_call() -> None:
    network, rows = regression()
    curvature = DenseFisher(network, rows)
    calls: list[int] = []
    solve = curvature.solve

    def counted(gradients: list[Parameters], *, damping: float) -> list[Parameters]:
        calls.append(len(gradients))
        return solve(gradients, damping=damping)

    curvature.solve = counted  # type: ignore[method-assign]
    options = StepOptions("curvature", rise=None, learning_rate=1e-3, damping=1e-2, unsaturated=False)
    updates = take_steps(network, [row(rows, 0), row(rows, 1)], options, curvature)
    assert calls == [2]
    gradients = row_gradients(network, rows)
    fisher = gradients.T @ gradients / len(gradients)
    matrix = fisher + 1e-2 * fisher.trace() * torch.eye(4, dtype=torch.float64)
    for i, update in enumerate(updates):
        expected = 1e-3 * torch.linalg.solve(matrix, gradients[i])
        torch.testing.assert_close(flat(update.changes), expected)


def test_a_tiny_newton_step_on_a_quadratic_gives_the_closed_form_influence() -> None:
    network, rows = regression(n=30)
    x, y = rows["x"], rows["y"]
    hessian = x.T @ x / len(x)

    class Newton:
        kind = "hessian"

        def solve(self, gradients: list[Parameters], *, damping: float) -> list[Parameters]:
            return [{"weight": torch.linalg.solve(hessian, g["weight"].T).T} for g in gradients]

        def tensors(self) -> Parameters:
            return {}

    query = {"x": torch.randn(1, 4, dtype=torch.float64), "y": torch.zeros(1, dtype=torch.float64)}
    eta = 1e-6
    options = StepOptions("curvature", "central", rise=None, learning_rate=eta, unsaturated=False)
    updates = take_steps(network, [query], options, Newton())
    scores = score_batch(network, rows, updates, None)[:, 0] / eta
    residual = network.outputs(network.parameters, rows) - y
    query_gradient_ = (network.outputs(network.parameters, query) - query["y"]) * query["x"][0]
    expected = residual * (x @ torch.linalg.solve(hessian, query_gradient_))
    # the central difference of a quadratic is exact; what is left is rounding of θ̂ ± δ at 1e-16 / 1e-6
    torch.testing.assert_close(scores, expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("rise", [1e-3, 0.1, 2.0])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("method", ["sgd", "adam"])
def test_the_step_is_as_long_as_the_rise_asks_for(method: str, direction: str, rise: float) -> None:
    network, rows = classifier()
    options = StepOptions(method, direction, rise=rise)  # type: ignore[arg-type]
    for update in take_steps(network, [row(rows, 0), {n: v[:4] for n, v in rows.items()}], options):
        assert update.rise == pytest.approx(rise, rel=0.011)
        assert update.options is options


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("unsaturated", [True, False])
def test_the_rise_recorded_is_the_one_measured_from_outside(direction: str, unsaturated: bool) -> None:
    network, rows = classifier(torch.float64)
    options = StepOptions("adam", direction, 5, 0.01, 0.3, unsaturated=unsaturated)  # type: ignore[arg-type]
    (update,) = take_steps(network, [row(rows, 1)], options)
    assert mean_rise(network, row(rows, 1), update) == pytest.approx(update.rise, rel=1e-9)
    assert update.rise == pytest.approx(0.3, rel=0.011)
    assert (update.loss_after > update.loss_before) == (direction != "descent")


def test_a_fitted_query_still_gets_a_step_of_the_asked_length() -> None:
    network, rows = classifier()
    query = row(rows, 0)
    scaled = {name: 30 * value for name, value in network.parameters.items() if name.startswith("3.")}
    network.module.load_state_dict(network.module.state_dict() | scaled)
    network = FullNetwork(network.module, network.objective)
    query["label"] = network.outputs(network.parameters, query).argmax(1)
    assert losses(network, network.parameters, query).item() < 1e-6
    (update,) = take_steps(network, [query], StepOptions("sgd", rise=0.1))
    assert update.rise == pytest.approx(0.1, rel=0.011)


def test_a_learning_rate_of_zero_leaves_the_model_unchanged() -> None:
    network, rows = classifier()
    (update,) = take_steps(network, [row(rows, 0)], StepOptions(rise=None, learning_rate=0.0))
    assert not any(change.any() for change in update.changes.values())
    assert update.rise == 0.0
    assert update.loss_after == update.loss_before


def test_only_the_named_parameters_move() -> None:
    network, rows = classifier()
    part = FullNetwork(network.module, network.objective, ["3.weight"])
    (update,) = take_steps(part, [row(rows, 0)], StepOptions())
    assert list(update.changes) == ["3.weight"]


def test_a_query_whose_gradient_is_exactly_zero_is_refused_with_a_sentence() -> None:
    network, rows = regression()
    query = {"x": torch.zeros(1, 4, dtype=torch.float64), "y": torch.ones(1, dtype=torch.float64)}
    with pytest.raises(ModelError, match="gradient of the query is exactly zero") as caught:
        take_steps(network, [row(rows, 0), query], StepOptions())
    assert caught.value.hint


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_refused_with_a_sentence(value: float) -> None:
    network, rows = classifier()
    query = row(rows, 0)
    query["x"][0, 0] = value
    with pytest.raises(ModelError, match=r"loss of the query is (nan|inf)"):
        take_steps(network, [query], StepOptions())


def test_a_gradient_that_is_not_finite_is_refused_with_a_sentence() -> None:
    class Root(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.weight.sqrt().diag()  # the square root has no finite slope at 0

    network = FullNetwork(Root().eval(), Classification())
    query = {"x": torch.ones(1, 3), "label": torch.tensor([0])}
    with pytest.raises(ModelError, match="gradient of the query's loss is not finite"):
        take_steps(network, [query], StepOptions())


def test_a_step_that_breaks_the_query_is_refused_with_a_sentence() -> None:
    network, rows = classifier()
    with pytest.raises(ModelError, match="after the step"):
        take_steps(network, [row(rows, 0)], StepOptions("sgd", rise=None, learning_rate=1e38))


def test_a_rise_that_no_step_reaches_is_refused_or_told() -> None:
    class Flat(nn.Module):
        """Logits in [−1, 1]: the log-odds of two classes end at 2."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([0.1, -0.1]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tanh(x * self.weight)

    network = FullNetwork(Flat().eval(), Classification())
    query = {"x": torch.ones(1, 1), "label": torch.tensor([0])}
    (update,) = take_steps(network, [query], StepOptions(rise=50.0))
    assert 2.0 < update.rise < 2.5  # from −0.2 to 2, told instead of the 50 asked for


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"method": "curvature", "steps": 2}, {"rise": 0.0}, {"rise": float("nan")}, {"learning_rate": -1.0}],
)
def test_options_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(AuditError):
        StepOptions(**wrong)  # type: ignore[arg-type]


def test_a_curvature_step_needs_a_curvature_and_others_none() -> None:
    network, rows = regression()
    with pytest.raises(AuditError, match="without a curvature"):
        take_steps(network, [row(rows, 0)], StepOptions("curvature"))
    with pytest.raises(AuditError, match="with a curvature"):
        take_steps(network, [row(rows, 0)], StepOptions("sgd"), DenseFisher(network, rows))


@pytest.mark.parametrize("method", ["sgd", "adam", "curvature"])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_weights_are_byte_identical_after_a_step(method: str, direction: str) -> None:
    network, rows = classifier()
    before = digest(network.module)
    curvature = DenseFisher(network, rows) if method == "curvature" else None
    steps = 1 if method == "curvature" else 3
    take_steps(network, [row(rows, 0)], StepOptions(method, direction, steps), curvature)  # type: ignore[arg-type]
    assert digest(network.module) == before


def test_the_weights_are_byte_identical_after_an_exception_in_the_middle() -> None:
    network, rows = classifier()
    before = digest(network.module)
    calls = 0

    def fail(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt

    handle = network.module[1].register_forward_hook(fail)  # type: ignore[index]
    with pytest.raises(KeyboardInterrupt):
        take_steps(network, [row(rows, 0)], StepOptions("adam", steps=5))
    handle.remove()
    assert digest(network.module) == before


def test_rows_and_weights_made_in_inference_mode_can_be_stepped_on() -> None:
    network, rows = classifier()
    expected = query_gradient(network, row(rows, 0))[1]
    with torch.inference_mode():
        network.parameters = {name: value.clone() for name, value in network.parameters.items()}
        found = query_gradient(network, row(rows, 0))[1]
    for name in expected:
        assert torch.equal(found[name], expected[name])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_step_keeps_the_precision_of_the_weights(dtype: torch.dtype) -> None:
    network, rows = classifier(dtype)
    (update,) = take_steps(network, [row(rows, 0)], StepOptions("adam", steps=2))
    assert {change.dtype for change in update.changes.values()} == {dtype}
    assert {value.dtype for value in moved(network.parameters, update.changes).values()} == {dtype}


def test_raw_options_give_the_step_length_they_name() -> None:
    network, rows = regression()
    (update,) = take_steps(network, [row(rows, 0)], RAW_SGD)
    assert update.step_length == 1.0
