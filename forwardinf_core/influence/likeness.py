r"""How alike rows are in a space of their own: the cosine of centred, possibly whitened vectors, in blocks.

Whitening by the rows' own covariance, C = (1/n) Σ (x − x̄)(x − x̄)ᵀ, makes directions that every row shares count
little; ``floor`` keeps those in which rows hardly differ from becoming noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from forwardinf_core.influence.network import slices

BLOCK_ROWS = 4_096
SMALLEST = 1e-12  # of a length: a row without content is like nothing


@dataclass(frozen=True)
class Space:
    """x ↦ (x − mean) · scale, at length 1. ``scale`` (d, k) or None for the vectors as they are."""

    mean: Tensor
    scale: Tensor | None

    def place(self, values: Tensor) -> Tensor:
        """Return vectors (n, d) as points (n, k) of length 1; a row that is all mean becomes 0."""
        centred = values - self.mean
        moved = centred if self.scale is None else centred @ self.scale
        length: Tensor = moved.norm(dim=1, keepdim=True)
        return moved / length.clamp_min(SMALLEST)


def plain_space(n_numbers: int) -> Space:
    """Return the space of vectors that are compared as they are."""
    return Space(torch.zeros(n_numbers), None)


def fitted_space(rows: Tensor, *, whiten: bool, floor: float = 1e-3, most: int = 512) -> Space:
    """Return the space fitted to rows (n, d), possibly memory-mapped: centred, and whitened on their own covariance.

    ``floor``: added to every variance, as a share of the largest. ``most``: principal directions kept.
    Cost of whitening: n d² multiply-adds and one eigendecomposition of (d, d).
    """
    mean = torch.stack([rows[start:stop].double().sum(0) for start, stop in slices(len(rows), BLOCK_ROWS)]).sum(0)
    mean = (mean / len(rows)).float()
    if not whiten:
        return Space(mean, None)
    covariance = torch.zeros(rows.shape[1], rows.shape[1])
    for start, stop in slices(len(rows), BLOCK_ROWS):
        centred = rows[start:stop] - mean
        covariance.addmm_(centred.T, centred)
    variances, directions = torch.linalg.eigh(covariance.double() / len(rows))
    kept = min(most, len(variances))
    variances, directions = variances[-kept:].clamp_min(0), directions[:, -kept:]
    return Space(mean, (directions / (variances + floor * variances[-1].clamp_min(SMALLEST)).sqrt()).float())
