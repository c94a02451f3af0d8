r"""Cheap scores of rows for queries on a linear head, in closed form: what the verification holds against retraining.

With φ a row's features and a constant, r = p − y and g = r ⊗ φ its gradient: g_q · g_i (gradient dot), its cosine,
g_qᵀ H⁻¹ g_i (influence function), g_qᵀ (F + λI)⁻¹ g_i (what one mirrored step of the app's head ranks by), the cosine
of the features where the labels agree, the row's own loss, random numbers. All (n_queries, n_rows), positive = helps.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from forwardinf_core.audits.methods import DEFAULT_DAMPING
from forwardinf_core.verification.logistic import Preconditioner
from forwardinf_core.verification.retraining import Examples

Floats = NDArray[np.float64]
RANDOM_SEED = 0

WORDS: dict[str, str] = {
    "influence-fisher": "head through its Fisher",
    "influence-hessian": "exact-Hessian influence",
    "gradient-dot": "gradient dot product",
    "gradient-cosine": "cosine of gradients",
    "feature-similarity": "features of same label",
    "loss": "the row's own loss",
    "random": "random numbers",
}


def head_estimates(
    rows: Examples, queries: Examples, weights: Tensor, preconditioner: Preconditioner | None = None
) -> dict[str, Floats]:
    """Return every estimate on the head ``weights`` (c, d + 1), by name. Inputs of rows and queries are features.

    The influence function needs the factored Hessian. Memory: one (n_rows, n_rows) float64 matrix for the Fisher.
    """
    phi, phi_q = (F.pad(part.inputs.double(), (0, 1), value=1.0) for part in (rows, queries))
    r, r_q = residuals(phi @ weights.T, rows.labels), residuals(phi_q @ weights.T, queries.labels)
    dot = (r_q @ r.T) * (phi_q @ phi.T)
    sizes, sizes_q = (a.norm(dim=1) * b.norm(dim=1) for a, b in ((r, phi), (r_q, phi_q)))
    found = {
        "influence-fisher": _by_fisher(r, phi, dot),
        "gradient-dot": dot,
        "gradient-cosine": dot / (sizes_q.unsqueeze(1) * sizes).clamp_min(torch.finfo(torch.float64).tiny),
    }
    if preconditioner is not None:
        solved = preconditioner.solve(r_q.unsqueeze(2) * phi_q.unsqueeze(1))  # (m, c, d + 1)
        found["influence-hessian"] = torch.einsum("nc,mcd,nd->mn", r, solved, phi)
    return {name: value.numpy() for name, value in found.items()} | plain_scores(
        rows, queries, lambda: F.cross_entropy(phi @ weights.T, rows.labels, reduction="none")
    )


def plain_scores(rows: Examples, queries: Examples, losses: Callable[[], Tensor]) -> dict[str, Floats]:
    """Return the scores that need no gradient: similarity of features, the rows' ``losses`` (n,), random numbers."""
    alike = F.normalize(queries.inputs.double(), dim=1) @ F.normalize(rows.inputs.double(), dim=1).T
    agree = queries.labels.unsqueeze(1) == rows.labels
    shape = (len(queries), len(rows))
    return {
        "feature-similarity": torch.where(agree, alike, 0.0).numpy(),
        "loss": losses().double().expand(shape).numpy().copy(),
        "random": np.random.default_rng(RANDOM_SEED).normal(size=shape),
    }


def residuals(logits: Tensor, labels: Tensor) -> Tensor:
    """Return p − y, the gradient of each row's loss in its logits, (n, c)."""
    return logits.softmax(1) - F.one_hot(labels, logits.shape[1])


def _by_fisher(r: Tensor, phi: Tensor, dot: Tensor) -> Tensor:
    """Return g_qᵀ (F + λI)⁻¹ g_i from dot products alone: (dot − dot (nλI + G)⁻¹ G) / λ with G = g gᵀ (Woodbury)."""
    gram = (r @ r.T) * (phi @ phi.T)
    damping = DEFAULT_DAMPING["fisher"] * float(gram.diagonal().mean())
    damped = gram.clone()
    damped.diagonal().add_(len(gram) * damping)
    solved = torch.cholesky_solve(dot.T, torch.linalg.cholesky(damped)).T
    return (dot - solved @ gram) / damping
