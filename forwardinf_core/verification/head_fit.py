r"""Refits a model's last layer on its frozen features: multinomial logistic regression, to its one optimum.

The objective is the mean cross-entropy over the kept rows plus l2/2 ‖W‖², the bias free, by scikit-learn's Newton-CG.
What the layer was trained with is not known, so l2 is the one of a short list whose optimum is as long as the model's
own layer. That looks at training rows and weights only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from forwardinf_core.errors import ModelError

L2_TRIED = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
TOLERANCE = 1e-6  # of the gradient of the mean loss; a removal moves it by 1e-3 and more
MOST_ITERATIONS = 300
NEVER = -30.0  # log-odds of a class that no kept row has: the optimum is minus infinity
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class HeadProblem:
    """Features (n, d) and labels (n,) of the rows, the number of outputs, and the strength of the penalty."""

    features: Floats
    labels: NDArray[np.int64]
    n_classes: int
    l2: float

    @staticmethod
    def like(features: Tensor, labels: NDArray[np.int64], weight: Tensor) -> HeadProblem:
        """Return the problem whose optimum is as long as ``weight`` (n_classes, d), the model's own layer."""
        own = weight.double().numpy()
        size = float(np.linalg.norm(own - own.mean(0)))  # a shift common to all classes changes no probability
        problem = HeadProblem(features.double().numpy(), labels, len(own), L2_TRIED[0])
        best, start, nearest = problem, None, np.inf
        for l2 in reversed(L2_TRIED):
            tried = replace(problem, l2=l2)
            start = fit_head(tried, start=start)
            distance = abs(np.log(np.linalg.norm(start[:, :-1]) / max(size, 1e-12)))
            if distance >= nearest:
                break  # lengths grow as l2 falls: from here on they only move away
            best, nearest = tried, distance
        return best


def fit_head(problem: HeadProblem, weights: Floats | None = None, start: Floats | None = None) -> Floats:
    """Return the layer [W, b] (n_classes, d + 1) at the optimum. ``weights`` (n,): how much each row counts, 0 = not.

    ``start`` is where to begin, an earlier result. Raises ModelError where fewer than two classes are left or the
    optimum is not a number.
    """
    counted = np.ones(len(problem.labels)) if weights is None else weights
    kept = counted > 0
    present = np.unique(problem.labels[kept])
    if len(present) < 2:
        raise ModelError("Fewer than two classes are left to tell apart.", hint="Remove fewer rows.")
    # With two classes scikit-learn penalises the one difference of weights: half of l2 is the same objective.
    l2 = problem.l2 / 2 if len(present) == 2 else problem.l2
    model = LogisticRegression(
        C=1.0 / (l2 * counted[kept].sum()), solver="newton-cg", tol=TOLERANCE, max_iter=MOST_ITERATIONS, warm_start=True
    )
    if start is not None and len(present) == problem.n_classes > 2:
        model.coef_, model.intercept_, model.classes_ = start[:, :-1].copy(), start[:, -1].copy(), present
    model.fit(problem.features[kept], problem.labels[kept], sample_weight=counted[kept])
    coefficients, intercepts = model.coef_, model.intercept_
    if len(present) == 2:
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    result = np.zeros((problem.n_classes, problem.features.shape[1] + 1))
    result[:, -1] = intercepts.min() + NEVER
    result[present, :-1], result[present, -1] = coefficients, intercepts
    if not np.isfinite(result).all():
        raise ModelError("Refitting the last layer did not end in numbers.", hint="Check the features for outliers.")
    return result


def outputs_of_head(layer: Floats, features: Tensor) -> Tensor:
    """Return the outputs (n, n_classes) of a layer [W, b] on features (n, d), in float64."""
    weight = torch.from_numpy(layer)
    return features.double() @ weight[:, :-1].T + weight[:, -1]
