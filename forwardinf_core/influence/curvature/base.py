r"""The one interface of every curvature: solve (F + λI) x = g for a batch of query gradients.

F is the empirical Fisher (1/n) Σ g_i g_iᵀ over the training rows (true labels), or an approximation of it.
Damping is given relative to the mean squared row-gradient norm: λ = damping · (1/n) Σ ‖g_i‖².
"""

from __future__ import annotations

from typing import Protocol

from forwardinf_core.influence.network import Parameters


class Curvature(Protocol):
    """An approximation of the Fisher of one network on one training set."""

    kind: str
    mean_squared_norm: float  # (1/n) Σ ‖g_i‖², what damping is relative to

    def solve(self, gradients: list[Parameters], *, damping: float) -> list[Parameters]:
        """Return (F + λI)⁻¹ g for each query gradient, on the names the curvature was fitted for."""
        ...

    def tensors(self) -> Parameters:
        """Return what must be stored to build this curvature again."""
        ...
