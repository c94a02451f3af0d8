"""The losses of classification, and their changes without cancellation."""

from __future__ import annotations

import pytest
import torch
from tiny_problems import row
from torch import Tensor

from forwardinf_core.influence.objective import Batch, Classification

RTOL_FP32 = 1e-5  # of float32 results against float64, where the formula loses nothing by itself


def random_case(scale: float, spread: float, n: int = 400) -> tuple[Tensor, Tensor, Batch]:
    generator = torch.Generator().manual_seed(1)
    outputs = spread * torch.randn(n, 7, generator=generator)
    change = scale * torch.randn(n, 7, generator=generator)
    return outputs, change, {"label": torch.randint(0, 7, (n,), generator=generator)}


def reference(outputs: Tensor, change: Tensor, batch: Batch) -> Tensor:
    objective = Classification()
    return objective.losses(outputs.double() + change.double(), batch) - objective.losses(outputs.double(), batch)


def summands(outputs: Tensor, change: Tensor, batch: Batch) -> Tensor:
    """Σ p_j |exp(Δ_j − Δ_y) − 1|: the size of what is added up, which rounding errors are relative to."""
    relative = change.double() - change.double().gather(1, batch["label"].unsqueeze(1))
    return (outputs.double().softmax(1) * torch.expm1(relative).abs()).sum(1)


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 0.1, 1.0, 5.0, 40.0, 200.0])
@pytest.mark.parametrize("spread", [0.1, 3.0, 15.0])
def test_loss_changes_agree_with_the_float64_difference(scale: float, spread: float) -> None:
    outputs, change, batch = random_case(scale, spread)
    expected = reference(outputs, change, batch)
    found = Classification().loss_changes(outputs, change, batch).double()
    size = torch.minimum(summands(outputs, change, batch), expected.abs() + 1.0)
    # the reference itself rounds at 1e-16 of the losses
    assert ((found - expected).abs() <= RTOL_FP32 * size + 1e-13 * spread).all()


def test_loss_changes_keep_their_digits_on_a_row_fitted_to_a_loss_of_1e_9() -> None:
    outputs = torch.zeros(1, 10)
    outputs[0, 3] = 23.0  # loss 9 · exp(−23) ≈ 9e-10
    batch = {"label": torch.tensor([3])}
    change = torch.linspace(-0.5, 0.7, 10).unsqueeze(0)
    objective = Classification()
    assert 1e-10 < objective.losses(outputs.double(), batch).item() < 1e-9
    z, delta = outputs.double(), change.double()
    odds = torch.cat([z[0, :3] - z[0, 3], z[0, 4:] - z[0, 3]])
    moved = torch.cat([delta[0, :3] - delta[0, 3], delta[0, 4:] - delta[0, 3]])
    expected = torch.log1p((odds + moved).exp().sum()) - torch.log1p(odds.exp().sum())
    found = objective.loss_changes(outputs, change, batch).double()
    torch.testing.assert_close(found[0], expected, rtol=RTOL_FP32, atol=0.0)


def test_a_tiny_change_is_weighted_by_p_minus_y() -> None:
    outputs, change, batch = random_case(1e-5, 3.0)
    objective = Classification()
    gradient = objective.output_gradients(outputs.double(), batch)
    expected = (gradient * change.double()).sum(1)
    found = objective.loss_changes(outputs, change, batch).double()
    # the next order is at most half the squared range of the change, about (6e-5)² / 2
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-9)


def test_no_change_of_the_outputs_changes_no_loss_at_all() -> None:
    outputs, change, batch = random_case(0.0, 15.0)
    objective = Classification()
    assert torch.equal(objective.loss_changes(outputs, change, batch), torch.zeros(len(outputs)))
    assert torch.equal(objective.loss_changes_all_labels(outputs, change), torch.zeros_like(outputs))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 60.0])
def test_changes_under_all_labels_equal_changes_with_the_label_replaced(scale: float) -> None:
    outputs, change, _ = random_case(scale, 5.0)
    objective = Classification()
    found = objective.loss_changes_all_labels(outputs, change)
    for label in range(outputs.shape[1]):
        expected = objective.loss_changes(outputs, change, {"label": torch.full((len(outputs),), label)})
        torch.testing.assert_close(found[:, label], expected, rtol=RTOL_FP32, atol=1e-6 * scale)


def test_changes_under_all_labels_keep_the_digits_of_the_predicted_label() -> None:
    outputs = torch.zeros(1, 5)
    outputs[0, 2] = 20.0
    change = torch.tensor([[0.3, -0.2, 0.1, 0.0, 0.4]])
    objective = Classification()
    expected = objective.loss_changes(outputs, change, {"label": torch.tensor([2])})
    assert torch.equal(objective.loss_changes_all_labels(outputs, change)[:, 2], expected)


def test_output_gradients_are_the_derivative_of_the_losses() -> None:
    outputs, _, batch = random_case(0.0, 3.0)
    at = outputs.double().requires_grad_()
    objective = Classification()
    (expected,) = torch.autograd.grad(objective.losses(at, batch).sum(), at)
    torch.testing.assert_close(objective.output_gradients(outputs.double(), batch), expected)


def test_the_unsaturated_gradient_points_the_same_way_and_does_not_vanish() -> None:
    outputs, _, batch = random_case(0.0, 3.0)
    at = outputs.double().requires_grad_()
    objective = Classification()
    (gradient,) = torch.autograd.grad(objective.losses(at, batch).sum(), at)
    (unsaturated,) = torch.autograd.grad(objective.unsaturated_losses(at, batch).sum(), at)
    wrong = 1.0 - at.detach().softmax(1).gather(1, batch["label"].unsqueeze(1))
    torch.testing.assert_close(unsaturated * wrong, gradient)
    fitted = row({"outputs": torch.tensor([[0.0, 200.0, 0.0]])}, 0)["outputs"].requires_grad_()
    (at_fitted,) = torch.autograd.grad(objective.unsaturated_losses(fitted, {"label": torch.tensor([1])}).sum(), fitted)
    torch.testing.assert_close(at_fitted, torch.tensor([[0.5, -1.0, 0.5]]))


def test_half_precision_outputs_are_scored_in_float32_and_float64_stays() -> None:
    objective = Classification()
    batch = {"x": torch.zeros(2, 3), "label": torch.tensor([0, 1])}
    assert objective.outputs(lambda x: x.half(), batch).dtype == torch.float32
    assert objective.outputs(lambda x: x.double(), batch).dtype == torch.float64
