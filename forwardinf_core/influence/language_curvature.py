r"""The Fisher of a language model's weight matrices from per-text gradients: its diagonal, or EK-FAC's.

G_i (in × out) is a text's gradient of one matrix. ``diagonal`` keeps E_i[G_i²] as it stands; ``ekfac`` keeps
E_i[(Q_Aᵀ G_i Q_B)²] in the eigenvectors of E[a aᵀ] and E[b bᵀ] (George et al. 2018). Both give (F + λI)⁻¹ g for the
step, and every text's self-influence G_i · (F + λI)⁻¹ G_i: how strongly it moves the model whatever is asked. A score
divided by its root finds the text that states a fact rather than the one that is loud.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from forwardinf_core.influence.language import LanguageModelling
from forwardinf_core.influence.language_parts import Matrix, Recorded, recorded
from forwardinf_core.influence.network import Parameters
from forwardinf_core.influence.objective import Batch

LanguageCurvatureKind = Literal["diagonal", "ekfac"]
SHARED_SHARE = 0.1  # of an embedding's own Fisher, where it is read from and said with: docs/tracing.md


@dataclass(frozen=True)
class MatrixFisher:
    """The Fisher of one matrix: ``squares`` (in, out) in the bases ``left`` (in, in) and ``right`` (out, out).

    None is the basis as it stands: both for ``diagonal``, ``right`` for a head, whose outputs are the vocabulary. Of an
    embedding that is read from too, ``squares`` are SHARED_SHARE of the Fisher: it moves as many times further.
    """

    matrix: Matrix
    squares: Tensor
    left: Tensor | None = None
    right: Tensor | None = None

    def rotated(self, found: Recorded) -> Tensor:
        """Return the texts' gradients in the bases, (n, in, out)."""
        return found.text_gradients(self.matrix, self.left, self.right)

    def solved(self, gradient: Tensor, damping: float) -> Tensor:
        """Return (F + λI)⁻¹ of a parameter's gradient, in the parameter's own layout."""
        value = gradient if self.matrix.is_transposed else gradient.T
        found = self.into_bases(value) / (self.squares + damping)
        found = found if self.left is None else self.left @ found
        found = found if self.right is None else found @ self.right.T
        return found if self.matrix.is_transposed else found.T

    def into_bases(self, value: Tensor) -> Tensor:
        """Return a matrix (in, out) in the bases."""
        value = value if self.left is None else self.left.T @ value
        return value if self.right is None else value @ self.right


class LanguageCurvature:
    """The Fisher of some weight matrices of one model on one corpus. See ``Curvature``."""

    def __init__(self, kind: LanguageCurvatureKind, parts: Sequence[MatrixFisher]) -> None:
        self.kind: str = kind
        self.parts = tuple(parts)
        self.mean_squared_norm = sum(float(part.squares.sum(dtype=torch.float64)) for part in parts)
        groups = [[part for part in parts if part.matrix.is_plain == is_plain] for is_plain in (False, True)]
        self._means = [
            sum(float(part.squares.sum(dtype=torch.float64)) for part in group)
            / max(sum(part.squares.numel() for part in group), 1)
            for group in groups
        ]

    def damping_of(self, part: MatrixFisher, share: float) -> float:
        """Return λ of a matrix: a share of the mean of F's diagonal, over all matrices of its sort (plain or not)."""
        return share * self._means[part.matrix.is_plain]

    def solve(self, gradients: list[Parameters], *, damping: float) -> list[Parameters]:
        """Return (F + λI)⁻¹ g for each query gradient; λ = damping · the mean of F's diagonal."""
        sizes = [(part, self.damping_of(part, damping)) for part in self.parts]
        return [{p.matrix.weight: p.solved(one[p.matrix.weight], size) for p, size in sizes} for one in gradients]

    def self_influences(
        self, module: nn.Module, objective: LanguageModelling, batch: Batch, *, damping: float
    ) -> Tensor:
        """Return G_i · (F + λI)⁻¹ G_i of each text, (n,), never negative. Cost: a forward and a backward pass."""
        found = recorded(module, objective, [part.matrix for part in self.parts], batch)
        total = torch.zeros(len(found.losses))
        for part in self.parts:
            total += (part.rotated(found).square() / (part.squares + self.damping_of(part, damping))).sum((1, 2))
        return total

    def tensors(self) -> Parameters:
        """Return what must be stored to build this curvature again."""
        stored: Parameters = {}
        for part in self.parts:
            bases = {"squares": part.squares, "left": part.left, "right": part.right}
            prefix = f"{self.kind}|{part.matrix.module}"
            stored |= {f"{prefix}|{name}": value.contiguous() for name, value in bases.items() if value is not None}
        return stored

    @classmethod
    def from_tensors(cls, tensors: Parameters, matrices: Sequence[Matrix]) -> LanguageCurvature:
        """Return the curvature of these matrices that ``tensors`` wrote."""
        kind: LanguageCurvatureKind = "ekfac" if any(name.startswith("ekfac|") for name in tensors) else "diagonal"
        parts = []
        for matrix in matrices:
            prefix = f"{kind}|{matrix.module}"
            left, right = tensors.get(f"{prefix}|left"), tensors.get(f"{prefix}|right")
            parts.append(MatrixFisher(matrix, tensors[f"{prefix}|squares"], left, right))
        return cls(kind, parts)


def fit_language_curvature(
    module: nn.Module,
    objective: LanguageModelling,
    matrices: Sequence[Matrix],
    batches: Sequence[Callable[[], Batch]],
    kind: LanguageCurvatureKind,
    *,
    report: Callable[[float], None] = lambda _share: None,
) -> LanguageCurvature:
    """Fit on batches of texts, each read once for the diagonal and twice for EK-FAC."""
    reads = 1 if kind == "diagonal" else 2
    bases = {matrix.weight: (None, None) for matrix in matrices} if reads == 1 else None
    found_bases = bases or _eigenvectors(module, objective, matrices, batches, lambda share: report(share / 2))
    empty = [MatrixFisher(matrix, torch.zeros(()), *found_bases[matrix.weight]) for matrix in matrices]
    sums: list[Tensor] = [torch.zeros(()) for _ in matrices]
    n_texts = 0
    for index, batch in enumerate(batches):
        found = recorded(module, objective, matrices, batch())
        n_texts += len(found.losses)
        sums = [total + part.rotated(found).square().sum(0) for total, part in zip(sums, empty, strict=True)]
        report((index + 1) / len(batches) / reads + (reads - 1) / reads)
    parts = [
        MatrixFisher(
            part.matrix, total * (SHARED_SHARE if part.matrix.readers else 1.0) / max(n_texts, 1), part.left, part.right
        )
        for part, total in zip(empty, sums, strict=True)
    ]
    return LanguageCurvature(kind, parts)


def _eigenvectors(
    module: nn.Module,
    objective: LanguageModelling,
    matrices: Sequence[Matrix],
    batches: Sequence[Callable[[], Batch]],
    report: Callable[[float], None],
) -> dict[str, tuple[Tensor | None, Tensor | None]]:
    """Return the eigenvectors of E[a aᵀ] and E[b bᵀ] for each matrix, None where it has none."""
    found_axes: dict[str, tuple[Tensor | None, Tensor | None]] = {m.weight: (None, None) for m in matrices}
    matrices = [matrix for matrix in matrices if not matrix.is_plain]
    inner: dict[str, Tensor] = {}
    outer: dict[str, Tensor] = {}
    for index, batch in enumerate(batches):
        values = batch()
        found = recorded(module, objective, matrices, values)
        for matrix in matrices:
            # what is padding has no gradient, and its inputs must not count either
            gradient = found.gradients[matrix.weight].flatten(0, 1)
            read = found.inputs[matrix.weight].flatten(0, 1) * (gradient.abs().sum(1, keepdim=True) > 0)
            inner[matrix.weight] = inner.get(matrix.weight, torch.zeros(())) + read.T @ read
            if not matrix.is_wide:
                outer[matrix.weight] = outer.get(matrix.weight, torch.zeros(())) + gradient.T @ gradient
        report((index + 1) / len(batches))
    return found_axes | {name: (_axes(inner[name]), _axes(outer[name]) if name in outer else None) for name in inner}


def _axes(covariance: Tensor) -> Tensor:
    vectors: Tensor = torch.linalg.eigh(covariance / covariance.diagonal().mean().clamp_min(1e-30))[1]
    return vectors
