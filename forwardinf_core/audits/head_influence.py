"""Influence through the head in closed form, of rows on queries and on themselves, for leakage and memorization."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from forwardinf_core.audits.methods import method_named
from forwardinf_core.audits.preparation import Workplace
from forwardinf_core.influence.curvature.head_factors import HeadConjugateGradient, HeadFactors
from forwardinf_core.influence.head import FEATURES, HeadNetwork
from forwardinf_core.influence.objective import Batch
from forwardinf_core.influence.self_influence import Solver, pair_influences, self_influences, solved_gradients


@dataclass(frozen=True)
class HeadInfluence:
    """The head, its curvature and damping. ``is_exact``: the exact Fisher; else its Kronecker factors."""

    network: HeadNetwork
    solver: Solver
    damping: float
    is_exact: bool

    def on_itself(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the self-influence of rows, (n,)."""
        return self_influences(self.network, batch_of(features, labels), self.solver, damping=self.damping)

    def solved(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the steps of queries, (m, c, d + 1), for ``on_rows``."""
        return solved_gradients(self.network, batch_of(features, labels), self.solver, damping=self.damping)

    def on_rows(self, features: Tensor, labels: Tensor, solved: Tensor) -> Tensor:
        """Return the influence of rows on queries, (m, n): positive where the row helped."""
        return pair_influences(self.network, batch_of(features, labels), solved)


def batch_of(features: Tensor, labels: Tensor) -> Batch:
    """Return rows as the head reads them."""
    return {FEATURES: features, "label": labels}


def head_influence(place: Workplace) -> HeadInfluence | None:
    """Return the head's influence, fitting its curvature where that is missing; None where the model has no head.

    Where the head is too large for the exact Fisher, solving it for every row would take a read of all rows each: its
    Kronecker factors (K-FAC) stand in, and ``is_exact`` says so.
    """
    if place.model.head is None:
        return None
    scope, method = place.scope("head"), method_named("head")
    curvature = place.curvature(scope, method)
    assert isinstance(scope.network, HeadNetwork)
    assert curvature is not None
    if isinstance(curvature, HeadConjugateGradient):
        factors = curvature.preconditioner
        assert isinstance(factors, HeadFactors)
        return HeadInfluence(scope.network, factors, method.damping, is_exact=False)
    return HeadInfluence(scope.network, curvature, method.damping, is_exact=True)


def labels_or_predicted(labels: Tensor, outputs: Tensor) -> Tensor:
    """Return each row's label, or the predicted class where it has none."""
    return torch.where(labels >= 0, labels, outputs.argmax(1))
