r"""One confidence from all signals, learned on planted copies of the user's own rows and checked on others.

A logistic regression on the signals and on how far each stands out tells a copy from a query's other nearest rows; a
second one turns the best row's evidence into the probability that the query has a copy at all, at even odds. What
share of the real queries have one is estimated from their own evidence (Saerens, Latinne and Decaestecker 2002: EM on
the class prior), so a set without leaks is not told that half of it leaked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor

RIVALS = 10  # rows beside the origin that the first regression learns to tell from it
PRIOR_ROUNDS = 200
FEWEST = 1e-4  # the prior is not taken below: no evidence would ever be enough
STEADY = 1e-7


@dataclass(frozen=True)
class Fusion:
    """evidence = features · weights (2 s,); log-odds that the query has a copy = slope × evidence + intercept."""

    weights: tuple[float, ...]
    slope: float
    intercept: float

    def evidence(self, features: Tensor) -> Tensor:
        """Return the evidence of pairs, features (…, 2 s) → (…)."""
        return features @ torch.tensor(self.weights, dtype=features.dtype)

    def log_odds(self, evidence: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the log-odds of a copy where half of the queries have one."""
        return self.slope * evidence + self.intercept


@dataclass(frozen=True)
class Check:
    """What the confidence was worth on the half of the planted rows that it was not learned on.

    ``top1``: share of planted copies whose origin came first. ``precision`` and ``recall`` of confidence ≥ 0.5 at even
    odds; ``brier``: mean squared error of the confidence. ``by_kind``: recall of each kind of alteration.
    """

    n_planted: int
    n_others: int
    top1: float
    precision: float
    recall: float
    brier: float
    by_kind: dict[str, float]


def fit_weights(features: NDArray[np.float32], is_origin: NDArray[np.bool_]) -> tuple[float, ...]:
    """Return the weights that tell an origin from its rivals, features (pairs, 2 s), in units of the features."""
    scale = features.std(0) + 1e-6
    model = LogisticRegression(C=1.0, max_iter=2_000, class_weight="balanced")
    model.fit(features / scale, is_origin)
    # A signal can only speak for a copy: what fits the planted alterations by speaking against is not believed.
    return tuple(float(weight) for weight in np.maximum(model.coef_[0] / scale, 0.0))


def fit_confidence(weights: tuple[float, ...], evidence: NDArray[np.float64], has_copy: NDArray[np.bool_]) -> Fusion:
    """Return the fusion whose log-odds fit whether queries have a copy, at even odds."""
    spread = float(evidence.std()) or 1.0
    model = LogisticRegression(C=10.0, max_iter=2_000, class_weight="balanced")
    model.fit(evidence[:, None] / spread, has_copy)
    return Fusion(weights, float(model.coef_[0, 0]) / spread, float(model.intercept_[0]))


def sigmoid(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 / (1 + exp(−x)), without overflow."""
    return np.exp(-np.logaddexp(0.0, -log_odds))


def estimated_prior(log_odds: NDArray[np.float64]) -> float:
    """Return the share of queries that have a copy, from their log-odds at even odds: EM on the prior."""
    prior = 0.5
    for _ in range(PRIOR_ROUNDS):
        share = float(sigmoid(log_odds + np.log(prior / (1 - prior))).mean())
        share = min(max(share, FEWEST), 1 - FEWEST)
        if abs(share - prior) < STEADY:
            break
        prior = share
    return prior


def confidence(log_odds: NDArray[np.float64], prior: float) -> NDArray[np.float64]:
    """Return the probability of a copy given the share of queries that have one."""
    return sigmoid(log_odds + np.log(prior / (1 - prior)))
