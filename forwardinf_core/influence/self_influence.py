r"""Influence through the head in closed form for all pairs of rows and queries, and of every row on itself.

With g = r ⊗ [φ, 1] the gradient of a row's loss in the head (r = p − y) and F its Fisher, the influence of row i on
query q is g_iᵀ (F + λI)⁻¹ g_q, and the self-influence g_iᵀ (F + λI)⁻¹ g_i: how far the loss of a row would rise if the
row were taken out, to first order. Divided by the square roots of both self-influences it is a cosine: the share of a
row's pull that goes the query's way, which a row with a large gradient does not win by its size.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from forwardinf_core.influence.curvature.ekfac import EkfacCurvature
from forwardinf_core.influence.curvature.layers import layers_of, nodes_of, row_gradients
from forwardinf_core.influence.curvature.taps import record
from forwardinf_core.influence.graph import GraphNetwork
from forwardinf_core.influence.head import HeadNetwork, outer
from forwardinf_core.influence.network import Parameters, slices
from forwardinf_core.influence.objective import Batch

GRADIENT_NUMBERS = 1 << 23  # numbers of one block of row gradients, 32 MB
CHANGE_NUMBERS = 1 << 22  # numbers of one block of output changes


class Solver(Protocol):
    """A curvature of the head that solves for many gradients at once."""

    def solve(self, gradients: list[Parameters], *, damping: float) -> list[Parameters]: ...


def solved_gradients(network: HeadNetwork, batch: Batch, solver: Solver, *, damping: float) -> Tensor:
    """Return (F + λI)⁻¹ g of every row of a batch as matrices [W, b], (n, c, d + 1)."""
    residuals, inputs = network.residuals(batch), network.inputs(batch)
    gradients = [network.names.parameters(torch.outer(r, x)) for r, x in zip(residuals, inputs, strict=True)]
    return torch.stack([network.names.matrix(one) for one in solver.solve(gradients, damping=damping)])


def self_influences(network: HeadNetwork, batch: Batch, solver: Solver, *, damping: float) -> Tensor:
    """Return the self-influence of every row of a batch, (n,), never negative. Memory: blocks of GRADIENT_NUMBERS."""
    residuals, inputs = network.residuals(batch), network.inputs(batch)
    found = residuals.new_empty(len(residuals))
    for start, stop in slices(len(residuals), max(1, GRADIENT_NUMBERS // (residuals.shape[1] * inputs.shape[1]))):
        rows = {name: value[start:stop] for name, value in batch.items()}
        solved = solved_gradients(network, rows, solver, damping=damping)
        gradients = outer(residuals[start:stop], inputs[start:stop])
        found[start:stop] = (solved.flatten(1) * gradients).sum(1)
    return found.clamp_min(0)


def pair_influences(network: HeadNetwork, rows: Batch, solved_queries: Tensor) -> Tensor:
    """Return the influence of each row on each query, (n_queries, n_rows): positive where the row helped.

    ``solved_queries``: (m, c, d + 1) from ``solved_gradients``. Cost: a product (m c, d) @ (d, n).
    """
    n_queries, n_outputs, width = solved_queries.shape
    residuals, inputs = network.residuals(rows), network.inputs(rows)
    found = residuals.new_empty(n_queries, len(residuals))
    for start, stop in slices(n_queries, max(1, CHANGE_NUMBERS // (len(residuals) * n_outputs))):
        changes = solved_queries[start:stop].reshape(-1, width) @ inputs.T  # (queries · c, n)
        found[start:stop] = (changes.view(stop - start, n_outputs, -1) * residuals.T).sum(1)
    return found


def tail_self_influences(network: GraphNetwork, ekfac: EkfacCurvature, batch: Batch, *, damping: float) -> Tensor:
    r"""Return gᵀ (F + λI)⁻¹ g of every row of a batch under EK-FAC, (n,): Σ_kl (Q_Bᵀ g Q_A)²_kl / (Λ_kl + λ).

    Never forms a gradient as a vector of all parameters. Cost: one forward and backward pass, and the rotations.
    """
    layers = layers_of(network)
    recording = record(network, batch, nodes_of(layers))
    added = damping * ekfac.mean_squared_norm
    found = ekfac.diagonal.new_zeros(recording.n_rows)
    for layer, basis, values in zip(layers, ekfac.bases, ekfac.eigenvalues, strict=True):
        weight = network.parameters[layer.weight]
        for rows, block in row_gradients(layer, weight, recording, basis.sides):
            found[rows] += (block.square() / (values + added)).flatten(1).sum(1)
    return found
