"""Scores of a last layer that is nobody's model: one with shuffled weights, in double precision, or refitted on a copy.

The same steps, curvature and scores as ``audits/scoring.py`` uses for the model's own head, on features in memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forwardinf_core.audits.methods import DEFAULT_DAMPING, Method
from forwardinf_core.audits.preparation import Workplace
from forwardinf_core.audits.scopes import CachedRows
from forwardinf_core.audits.scoring import step_options
from forwardinf_core.influence.curvature.base import Curvature
from forwardinf_core.influence.curvature.head_factors import HeadConjugateGradient, HeadFactorsFit
from forwardinf_core.influence.head import FEATURES, HeadFisher, HeadFisherFit, HeadNetwork, fits_dense
from forwardinf_core.influence.network import TensorRows, slices
from forwardinf_core.influence.objective import Batch
from forwardinf_core.influence.scoring import base_pass, score_rows
from forwardinf_core.influence.step import take_steps

BATCH = 5_000  # rows
SOLVED_AT_ONCE = 500  # rows whose gradients are held together

Scores = NDArray[np.float32]


def head_scores(network: HeadNetwork, rows: TensorRows, queries: Sequence[Batch], method: Method) -> Scores:
    """Return scores (n_queries, n_rows), positive = helped; rows and queries hold ``features`` and ``label``."""
    base = base_pass(network, rows, BATCH)
    curvature = fitted(network, rows, base.outputs) if method.curvature else None
    updates = take_steps(network, queries, step_options(method), curvature)
    scores = score_rows(network, rows, updates, base.outputs, batch_size=base.batch_size)  # (n_rows, n_queries)
    found: Scores = scores.T.float().numpy()
    return found


def own_effects(network: HeadNetwork, rows: TensorRows) -> NDArray[np.float32]:
    r"""Return g_iᵀ (F + λI)⁻¹ g_i for every row (n,): how strongly each row acts on itself.

    Needs a head whose Fisher is dense. Cost: one solve with as many right sides as rows, in blocks.
    """
    curvature = fitted(network, rows, torch.empty(0))
    assert isinstance(curvature, HeadFisher)
    damping = DEFAULT_DAMPING["fisher"]
    parts = []
    for start, stop in slices(len(rows), SOLVED_AT_ONCE):
        gradients = network.row_gradients(rows.batch(start, stop))
        shape = network.names.matrix(network.parameters).shape
        solved = curvature.solve([network.names.parameters(g.view(shape)) for g in gradients], damping=damping)
        sides = torch.stack([network.names.matrix(one).flatten() for one in solved])
        parts.append((gradients * sides).sum(1))
    found: NDArray[np.float32] = torch.cat(parts).float().numpy()
    return found


def fitted(network: HeadNetwork, rows: TensorRows, outputs: Tensor) -> Curvature:
    """Return the head's exact Fisher, dense where it fits, else by conjugate gradients."""
    if fits_dense(network):
        dense = HeadFisherFit(network)
        state = dense.start()
        for start, stop in slices(len(rows), BATCH):
            state = dense.accumulate(state, rows.batch(start, stop))
        return dense.finish(state)
    factors = HeadFactorsFit(network)
    state = factors.start()
    for start, stop in slices(len(rows), BATCH):
        state = factors.accumulate(state, rows.batch(start, stop))
    return HeadConjugateGradient(network, rows, outputs, preconditioner=factors.finish(state))


def head_of(place: Workplace) -> tuple[HeadNetwork, Tensor]:
    """Return the model's own head and the features (n, d) of its training rows."""
    scope = place.scope("head")
    assert isinstance(scope.network, HeadNetwork)
    assert isinstance(scope.rows, CachedRows)
    return scope.network, scope.rows.activations[FEATURES]


def embedded(place: Workplace, queries: Sequence[Batch]) -> list[Batch]:
    """Return queries as batches of the head: features and label."""
    embed = place.scope("head").embed
    return [{name: batch[name] for name in (FEATURES, "label")} for batch in map(embed, queries)]


def as_rows(features: Tensor, labels: NDArray[np.int64]) -> TensorRows:
    """Return features and labels as rows of a head."""
    return TensorRows({FEATURES: features, "label": torch.from_numpy(labels.copy())})
