"""Logistic regression on many weightings at once: each refit is the one that scikit-learn finds by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from forwardinf_core.errors import DataError
from forwardinf_core.verification import logistic
from forwardinf_core.verification.logistic import GRADIENT_TOLERANCE, LogisticRows

N, D, CLASSES, L2 = 90, 6, 3, 0.01
ATOL = 1e-5  # of a probability: scikit-learn stops at a gradient of 1e-8 of the summed loss


@pytest.fixture
def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(N) % CLASSES
    features = torch.randn(N, D, generator=generator, dtype=torch.float64)
    features[:, :CLASSES] += 1.5 * torch.nn.functional.one_hot(labels, CLASSES)
    return features, labels


@pytest.fixture
def rows(data: tuple[Tensor, Tensor]) -> LogisticRows:
    return LogisticRows(*data, n_classes=CLASSES, l2=L2)


def by_sklearn(features: Tensor, labels: Tensor, shown: Tensor) -> np.ndarray:
    model = LogisticRegression(C=1 / (L2 * len(labels)), tol=1e-10, max_iter=10_000)
    return model.fit(features.numpy(), labels.numpy()).predict_proba(shown.numpy())


def probabilities(rows: LogisticRows, weights: Tensor) -> np.ndarray:
    """Return (n_fits, n, c)."""
    return rows.logits(weights).softmax(2).transpose(0, 1).numpy()


def test_the_fit_on_all_rows_is_scikit_learns(data: tuple[Tensor, Tensor], rows: LogisticRows) -> None:
    found = probabilities(rows, rows.fit.unsqueeze(0))[0]
    np.testing.assert_allclose(found, by_sklearn(*data, data[0]), atol=ATOL)


def test_leaving_out_a_row_or_half_of_them_gives_scikit_learns_refit(
    data: tuple[Tensor, Tensor], rows: LogisticRows
) -> None:
    features, labels = data
    kept = torch.ones(3, N, dtype=torch.float64)
    kept[0, 7] = kept[1, 40:] = kept[2, ::2] = 0.0
    refits = rows.refit(kept)
    assert float(refits.gradients.max()) <= GRADIENT_TOLERANCE
    for found, mask in zip(probabilities(rows, refits.weights), kept.bool(), strict=True):
        np.testing.assert_allclose(found, by_sklearn(features[mask], labels[mask], features), atol=ATOL)


def test_a_row_of_base_weight_zero_can_be_added(data: tuple[Tensor, Tensor]) -> None:
    features, labels = data
    rows = LogisticRows(features[:-1], labels[:-1], n_classes=CLASSES, l2=L2)
    extended = rows.extended(features[-1:], labels[-1:])
    without = by_sklearn(features[:-1], labels[:-1], features)
    np.testing.assert_allclose(probabilities(extended, extended.fit.unsqueeze(0))[0], without, atol=ATOL)
    added = extended.refit(torch.ones(1, N, dtype=torch.float64))
    np.testing.assert_allclose(probabilities(extended, added.weights)[0], by_sklearn(*data, features), atol=ATOL)


def test_a_head_too_large_for_its_hessian_reaches_the_same_optimum(
    data: tuple[Tensor, Tensor], rows: LogisticRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = torch.ones(2, N, dtype=torch.float64)
    kept[0, 3] = kept[1, 30:60] = 0.0
    expected = probabilities(rows, rows.refit(kept).weights)
    monkeypatch.setattr(logistic, "MOST_DENSE", 2)
    bounded = LogisticRows(*data, n_classes=CLASSES, l2=L2).refit(kept)
    assert float(bounded.gradients.max()) <= GRADIENT_TOLERANCE
    np.testing.assert_allclose(probabilities(rows, bounded.weights), expected, atol=ATOL)


def test_a_fit_does_not_depend_on_what_is_fitted_beside_it(rows: LogisticRows) -> None:
    kept = torch.ones(5, N, dtype=torch.float64) - torch.eye(N, dtype=torch.float64)[:5]
    together, alone = rows.refit(kept).weights[3], rows.refit(kept[3:4]).weights[0]
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-6)


def test_the_hessian_is_the_derivative_of_the_gradient(rows: LogisticRows) -> None:
    weights = torch.randn(CLASSES, D + 1, dtype=torch.float64)
    direction = torch.randn_like(weights)
    ones, h = torch.ones(1, N, dtype=torch.float64), 1e-5
    up, down = (rows.loss_and_gradient((weights + s * h * direction)[None], ones)[1][0] for s in (1, -1))
    product = (rows.hessian(weights) @ direction.flatten()).view_as(direction)
    torch.testing.assert_close(product, (up - down) / (2 * h), atol=1e-7, rtol=1e-5)


def test_losses_are_those_of_the_logits(rows: LogisticRows) -> None:
    weights = rows.fit.unsqueeze(0)
    expected = torch.nn.functional.cross_entropy(rows.logits(weights)[:, 0], rows.labels, reduction="none")
    torch.testing.assert_close(rows.losses(weights)[:, 0], expected)


def test_no_rows_no_penalty_and_features_that_are_no_numbers_are_refused(
    data: tuple[Tensor, Tensor], rows: LogisticRows
) -> None:
    features, labels = data
    with pytest.raises(DataError, match="no training row left"):
        rows.refit(torch.zeros(1, N, dtype=torch.float64))
    with pytest.raises(DataError, match="l2 is 0"):
        LogisticRows(features, labels, n_classes=CLASSES, l2=0.0)
    with pytest.raises(DataError, match="not finite"):
        LogisticRows(features / 0, labels, n_classes=CLASSES, l2=L2)
