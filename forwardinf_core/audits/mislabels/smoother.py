r"""What a kernel classifier says of each row had it never seen that row: leave-one-out, exact and in closed form.

Ridge regression of one-hot labels Y on Gaussian-kernel features of m landmarks (Nyström) has fitted values H Y with
H = Ψ Ψᵀ, Ψ (n, m), and its leave-one-out predictions are (H Y − h ∘ Y) / (1 − h), h the diagonal of H. Ψ depends on the
features alone, so other labels (planted errors, cleaned rows) cost one product, not a fit.
Cost: n m (d + 3 m) multiply-adds once, n m c for each set of labels; memory n m numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from forwardinf_core.audits.mislabels.opinions import Opinion
from forwardinf_core.influence.network import slices

LANDMARKS = 3_000
MOST_NUMBERS = 120_000_000  # of Ψ: 480 MB
BANDWIDTH = 2.0  # squared, in units of the median squared distance; chosen with RIDGE on label_random2
RIDGE = 0.3
JITTER = 1e-4
BLOCK_NUMBERS = 1 << 22
SHARPNESS = (2.0, 4.0, 6.0, 8.0, 12.0, 16.0)  # tried for the softmax of predictions; the labels themselves choose


@dataclass(frozen=True)
class Smoother:
    """Ψ (n, m) and h (n,)."""

    root: Tensor
    leverage: Tensor

    @classmethod
    def fit(cls, features: Tensor, *, seed: int) -> Smoother:
        """Fit to features (n, d) alone."""
        n = len(features)
        count = min(n, LANDMARKS, max(200, MOST_NUMBERS // n))
        chosen = torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:count].sort().values
        marks = features[chosen]
        scale = BANDWIDTH * _median_distance(marks)
        gram = _kernel(marks, marks, scale)
        gram.diagonal().add_(JITTER)
        lower = torch.linalg.cholesky(gram)
        step = max(1, BLOCK_NUMBERS // count)
        root = torch.empty(n, count)
        for start, stop in slices(n, step):
            kernel = _kernel(features[start:stop], marks, scale)
            root[start:stop] = torch.linalg.solve_triangular(lower, kernel.T, upper=False).T
        inner = root.T @ root
        inner.diagonal().add_(RIDGE)
        lower = torch.linalg.cholesky(inner)
        for start, stop in slices(n, step):
            root[start:stop] = torch.linalg.solve_triangular(lower, root[start:stop].T, upper=False).T
        return cls(root, root.square().sum(1).clamp_max(1 - 1e-4))

    def left_out(self, labels: Tensor, n_classes: int) -> Opinion:
        """Return what each row's leave-one-out prediction says of its label, in blocks of rows."""
        sums = self._sums(labels, n_classes)
        sharpness = self._sharpness(sums, labels)
        step = max(1, BLOCK_NUMBERS // n_classes)
        return Opinion.joined(
            [
                Opinion.of((sharpness * self._predictions(sums, labels, a, b)).log_softmax(1), labels[a:b])
                for a, b in slices(len(labels), step)
            ]
        )

    def _sums(self, labels: Tensor, n_classes: int) -> Tensor:
        """Return Ψᵀ Y as (c, m), without the one-hot matrix."""
        return torch.zeros(n_classes, self.root.shape[1]).index_add_(0, labels, self.root)

    def _predictions(self, sums: Tensor, labels: Tensor, start: int, stop: int) -> Tensor:
        fitted = self.root[start:stop] @ sums.T
        h = self.leverage[start:stop].unsqueeze(1)
        own = labels[start:stop].unsqueeze(1)
        return fitted.scatter_add(1, own, -h) / (1 - h)

    def _sharpness(self, sums: Tensor, labels: Tensor) -> float:
        """Return the factor before the softmax with the least leave-one-out loss, on some evenly spread rows."""
        step = max(1, len(labels) // 2_000)
        rows = torch.arange(0, len(labels), step)
        thin = Smoother(self.root[rows], self.leverage[rows])
        predicted = thin._predictions(sums, labels[rows], 0, len(rows))
        losses = [
            float(torch.nn.functional.cross_entropy(sharpness * predicted, labels[rows])) for sharpness in SHARPNESS
        ]
        return SHARPNESS[losses.index(min(losses))]


def _median_distance(rows: Tensor) -> Tensor:
    some = rows[:: max(1, len(rows) // 500)]
    distances = torch.cdist(some, some).square()
    return distances[distances > 0].median() if bool((distances > 0).any()) else torch.ones(())


def _kernel(rows: Tensor, marks: Tensor, scale: Tensor) -> Tensor:
    squares = rows.square().sum(1, keepdim=True) + marks.square().sum(1) - 2 * rows @ marks.T
    return squares.clamp_min_(0).div_(-scale).exp_()
