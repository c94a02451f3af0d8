r"""Multinomial logistic regression refitted on many weightings of the same rows at once, each to its own optimum.

Minimises, for every weighting w of the rows, Σ w_i ℓ(W φ_i + b; y_i) / Σ w + (l2 / 2) ‖W‖² with cross-entropy ℓ; the
bias b is free. Leave-one-out, removal of groups, added queries and changed labels are all weightings: a row that is
added or relabelled is one more row whose weight is otherwise 0. The problem is convex, so what is found is what any
other solver finds.

One fit on all rows is made first. Its Hessian is factored once and preconditions the refits, which start from it and go
by L-BFGS (Nocedal and Wright 2006, algorithm 7.4), all in step, so that their cost is a few matrix products.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.nn import functional as F

from forwardinf_core.errors import DataError, ModelError

GRADIENT_TOLERANCE = 1e-8  # largest element of the gradient of the mean loss at which a fit is taken as converged
MOST_DENSE = 8_000  # weights up to which the Hessian is factored as a whole: 512 MB, half a minute
MEMORY = 6  # corrections of L-BFGS
MOST_STEPS = 200
HALVINGS = 30
SUFFICIENT = 1e-4  # share of the predicted fall that a step must reach (Armijo)
BLOCK_NUMBERS = 6_000_000  # of one block of logits: 48 MB, and three such at a time
FIRST_FIT_STEPS, FIRST_FIT_GRADIENT = 2_000, 1e-5  # the first fit from zero, before its own Hessian is used


@dataclass(frozen=True)
class Refits:
    """Weights (n_fits, c, d + 1), bias last; the largest element of each gradient; steps that the slowest fit took."""

    weights: Tensor
    gradients: Tensor
    steps: int


class LogisticRows:
    """Rows of the regression, in float64, with a constant input for the bias.

    ``features`` (n, d), ``labels`` (n,) in 0 … n_classes − 1, ``base_weights`` (n,) of the fit on "all rows": 1, or 0
    for rows that only some refits have. ``tolerance``: see GRADIENT_TOLERANCE.
    """

    def __init__(
        self,
        features: Tensor,
        labels: Tensor,
        *,
        n_classes: int,
        l2: float,
        base_weights: Tensor | None = None,
        tolerance: float = GRADIENT_TOLERANCE,
    ) -> None:
        if not features.isfinite().all():
            raise DataError("Some features are not finite.", hint="Check the inputs of the rows for NaN.")
        if l2 <= 0:
            raise DataError(f"The penalty l2 is {l2:g}.", hint="It must be above 0, or the optimum may not exist.")
        self.inputs = F.pad(features.double(), (0, 1), value=1.0)  # (n, d + 1)
        self.labels = labels
        self.n_classes = n_classes
        self.l2 = l2
        self.base_weights = torch.ones(len(labels), dtype=torch.float64) if base_weights is None else base_weights
        self.tolerance = tolerance

    @property
    def n_weights(self) -> int:
        return self.n_classes * self.inputs.shape[1]

    def extended(self, features: Tensor, labels: Tensor) -> LogisticRows:
        """Return these rows and more whose base weight is 0: the same fit, not made again."""
        result = LogisticRows(
            torch.cat([self.inputs[:, :-1], features.double()]),
            torch.cat([self.labels, labels]),
            n_classes=self.n_classes,
            l2=self.l2,
            base_weights=torch.cat([self.base_weights, torch.zeros(len(labels), dtype=torch.float64)]),
            tolerance=self.tolerance,
        )
        result.__dict__["_fitted"] = self._fitted
        return result

    @property
    def preconditioner(self) -> Preconditioner:
        """The factored Hessian at the fit."""
        return self._fitted[1]

    @property
    def fit(self) -> Tensor:
        """The optimum (c, d + 1) with the base weights."""
        return self._fitted[0]

    @cached_property
    def _fitted(self) -> tuple[Tensor, Preconditioner]:
        """The optimum with the base weights, and the Hessian there, factored once for every refit."""

        def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
            weights = torch.from_numpy(flat.reshape(1, self.n_classes, -1))
            value, gradient = self.loss_and_gradient(weights, self.base_weights.unsqueeze(0))
            return float(value), gradient.flatten().numpy()

        options = {"maxiter": FIRST_FIT_STEPS, "maxfun": 2 * FIRST_FIT_STEPS, "ftol": 0.0, "gtol": FIRST_FIT_GRADIENT}
        found = minimize(objective, np.zeros(self.n_weights), jac=True, method="L-BFGS-B", options=options)
        start = torch.from_numpy(found.x.reshape(self.n_classes, -1))
        preconditioner = self._preconditioner(start)
        polished = self._refit(self.base_weights.unsqueeze(0), start, preconditioner)
        if polished.gradients.max() > self.tolerance:
            raise ModelError(
                f"The logistic regression did not converge (gradient {float(polished.gradients.max()):.1e}).",
                hint="A larger penalty, or features of similar spread, make it easier.",
            )
        return polished.weights[0], preconditioner

    def refit(self, weightings: Tensor) -> Refits:
        """Return the optimum for each row weighting (n_fits, n). Raises DataError where one leaves no row."""
        if (weightings.sum(1) <= 0).any():
            raise DataError("A refit has no training row left.", hint="Leave at least one row in.")
        parts = [self._refit(weightings[start:stop], *self._fitted) for start, stop in self._blocks(len(weightings))]
        return Refits(
            torch.cat([part.weights for part in parts]),
            torch.cat([part.gradients for part in parts]),
            max(part.steps for part in parts),
        )

    def logits(self, weights: Tensor, inputs: Tensor | None = None) -> Tensor:
        """Return the logits (n_rows, n_fits, c) of fits (n_fits, c, d + 1) on these or other inputs (n_rows, d + 1)."""
        rows = self.inputs if inputs is None else inputs
        return (rows @ weights.flatten(0, 1).T).view(len(rows), *weights.shape[:2])

    def losses(self, weights: Tensor, positions: Tensor | slice = slice(None)) -> Tensor:
        """Return the loss of some rows under each fit, (n_rows, n_fits)."""
        logits = self.logits(weights, self.inputs[positions])
        picked = self.labels[positions].view(-1, 1, 1).expand(*logits.shape[:2], 1)
        return logits.logsumexp(2) - logits.gather(2, picked).squeeze(2)

    def loss_and_gradient(self, weights: Tensor, weightings: Tensor) -> tuple[Tensor, Tensor]:
        """Return the objective (n_fits,) and its gradient (n_fits, c, d + 1) for each fit under its own weighting."""
        n_fits, c, width = weights.shape
        shares = (weightings / weightings.sum(1, keepdim=True)).T  # (n, n_fits)
        logits = self.logits(weights)
        top = logits.logsumexp(2)
        picked = self.labels.view(-1, 1, 1).expand(-1, n_fits, 1)
        losses = ((top - logits.gather(2, picked).squeeze(2)) * shares).sum(0)
        residuals = logits.sub_(top.unsqueeze(2)).exp_()
        residuals.scatter_add_(2, picked, torch.full_like(picked, -1, dtype=residuals.dtype))
        residuals.mul_(shares.unsqueeze(2))
        gradient = (residuals.view(-1, n_fits * c).T @ self.inputs).view(n_fits, c, width)
        penalised = weights[:, :, :-1]
        gradient[:, :, :-1].add_(penalised, alpha=self.l2)
        return losses + self.l2 / 2 * penalised.square().sum((1, 2)), gradient

    def hessian(self, weights: Tensor) -> Tensor:
        """Return the Hessian (k, k) of the base objective at weights (c, d + 1), k = c (d + 1), class by class."""
        shares = self.base_weights / self.base_weights.sum()
        probabilities = self.logits(weights.unsqueeze(0))[:, 0].softmax(1)  # (n, c)
        c, width = weights.shape
        matrix = weights.new_empty(c, width, c, width)
        for one in range(c):
            for other in range(one, c):
                factor = probabilities[:, one] * (float(one == other) - probabilities[:, other]) * shares
                block = (self.inputs * factor.unsqueeze(1)).T @ self.inputs
                matrix[one, :, other], matrix[other, :, one] = block, block
        flat = matrix.view(c * width, c * width)
        penalty = weights.new_full((c, width), self.l2)
        penalty[:, -1] = 0.0
        flat.diagonal().add_(penalty.flatten())
        return flat

    def _preconditioner(self, weights: Tensor) -> Preconditioner:
        if self.n_weights > MOST_DENSE:
            return Preconditioner(self._bound(), is_shared=True)
        matrix = self.hessian(weights)
        # Adding the same to every bias changes nothing: that direction has no curvature and no gradient.
        c, width = weights.shape
        biases = matrix.view(c, width, c, width)[:, -1, :, -1]
        biases += max(self.l2, float(biases.diagonal().mean())) / c
        return Preconditioner(torch.linalg.cholesky(matrix), is_shared=False)

    def _bound(self) -> Tensor:
        """Return the factor of Böhning's bound on the Hessian (1992), ½ Σ φφᵀ for every class.

        A matrix of d + 1 instead of c (d + 1): for heads too large for ``hessian``.
        """
        shares = self.base_weights / self.base_weights.sum()
        covariance = (self.inputs * shares.unsqueeze(1)).T @ self.inputs / 2
        penalty = covariance.new_full((len(covariance),), self.l2)
        penalty[-1] = 1e-6 * float(covariance.diagonal().mean())
        covariance.diagonal().add_(penalty)
        factor: Tensor = torch.linalg.cholesky(covariance)
        return factor

    def _blocks(self, n_fits: int) -> Iterator[tuple[int, int]]:
        size = max(1, BLOCK_NUMBERS // (len(self.labels) * self.n_classes))
        return ((start, min(start + size, n_fits)) for start in range(0, n_fits, size))

    def _refit(self, weightings: Tensor, start: Tensor, preconditioner: Preconditioner) -> Refits:
        search = _Search(self, weightings, start, preconditioner)
        steps = 0
        while len(active := search.unfinished()) and steps < MOST_STEPS:
            search.step(active)
            steps += 1
        return Refits(search.weights, search.gradients.abs().amax((1, 2)), steps)


class Preconditioner:
    """A factored approximation of the Hessian: dense over all weights, or one matrix shared by the classes."""

    def __init__(self, factor: Tensor, *, is_shared: bool) -> None:
        self.factor = factor
        self.is_shared = is_shared

    def solve(self, gradients: Tensor) -> Tensor:
        """Return H⁻¹ g for gradients (n_fits, c, d + 1)."""
        sides = gradients.flatten(0, 1) if self.is_shared else gradients.flatten(1)
        return torch.cholesky_solve(sides.T, self.factor).T.reshape(gradients.shape)


class _Search:
    """L-BFGS with backtracking on many problems in step; each leaves when it has converged or can get no lower."""

    def __init__(self, rows: LogisticRows, weightings: Tensor, start: Tensor, preconditioner: Preconditioner) -> None:
        self.rows = rows
        self.weightings = weightings
        self.preconditioner = preconditioner
        self.weights = start.unsqueeze(0).repeat(len(weightings), 1, 1)
        self.values, self.gradients = rows.loss_and_gradient(self.weights, weightings)
        self.stuck = torch.zeros(len(weightings), dtype=torch.bool)
        self.moves: list[Tensor] = []  # (n_fits, c, d + 1) each, the newest last; zero for a fit that did not move
        self.changes: list[Tensor] = []  # of the gradient

    def unfinished(self) -> Tensor:
        """Return the positions of the fits that go on."""
        return ((self.gradients.abs().amax((1, 2)) > self.rows.tolerance) & ~self.stuck).nonzero().flatten()

    def step(self, active: Tensor) -> None:
        """Move every active fit once, by a step that lowers its objective enough."""
        gradients, values, weights = self.gradients[active], self.values[active], self.weights[active]
        directions = -self._inverse_times(gradients, active)
        slopes = (directions * gradients).sum((1, 2))
        lengths = torch.ones(len(active), dtype=torch.float64)
        waiting = torch.arange(len(active))
        new_values, new_gradients, new_weights = values.clone(), gradients.clone(), weights.clone()
        # A fall below the round-off of the objective cannot be seen: there the gradient must not have grown.
        round_off = 8 * torch.finfo(torch.float64).eps * values.abs().clamp_min(1e-3)
        for _ in range(HALVINGS):
            trial = weights[waiting] + lengths[waiting].view(-1, 1, 1) * directions[waiting]
            value, gradient = self.rows.loss_and_gradient(trial, self.weightings[active[waiting]])
            fell = value <= values[waiting] + SUFFICIENT * lengths[waiting] * slopes[waiting]
            smaller = gradient.abs().amax((1, 2)) < gradients[waiting].abs().amax((1, 2))
            good = fell | ((value <= values[waiting] + round_off[waiting]) & smaller)
            done = waiting[good]
            new_values[done], new_gradients[done], new_weights[done] = value[good], gradient[good], trial[good]
            waiting = waiting[~good]
            if not len(waiting):
                break
            lengths[waiting] /= 2
        self.stuck[active[waiting]] = True
        self._remember(active, new_weights - weights, new_gradients - gradients)
        self.values[active], self.gradients[active], self.weights[active] = new_values, new_gradients, new_weights

    def _remember(self, active: Tensor, moves: Tensor, changes: Tensor) -> None:
        for kept, new in ((self.moves, moves), (self.changes, changes)):
            whole = torch.zeros_like(self.weights)
            whole[active] = new
            kept.append(whole)
            del kept[:-MEMORY]

    def _inverse_times(self, gradients: Tensor, active: Tensor) -> Tensor:
        """Return the two-loop recursion's product with the gradients, the preconditioner in the middle."""
        q = gradients.clone()
        pairs = [(move[active], change[active]) for move, change in zip(self.moves, self.changes, strict=True)]
        curvatures = [(move * change).sum((1, 2)) for move, change in pairs]
        factors = []
        for (move, change), curvature in reversed(list(zip(pairs, curvatures, strict=True))):
            factor = torch.where(curvature > 0, (move * q).sum((1, 2)) / curvature, 0.0)
            q -= factor.view(-1, 1, 1) * change
            factors.append(factor)
        result = self.preconditioner.solve(q)
        for (move, change), curvature, factor in zip(pairs, curvatures, reversed(factors), strict=True):
            again = torch.where(curvature > 0, (change * result).sum((1, 2)) / curvature, 0.0)
            result += (factor - again).view(-1, 1, 1) * move
        return result
