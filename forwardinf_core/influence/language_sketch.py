r"""Short codes of texts' gradients, from which all scores of a query are read in one product: which to look at closely.

A text's score in the limit of a vanishing step is G_i · δ = Ĝ_i · δ̂, with Ĝ = Q_Aᵀ G Q_B / √(F + λ) and
δ̂ = Q_Aᵀ δ Q_B · √(F + λ) in the eigenvectors of the curvature (language_curvature.py). Random signs L (in, k) and
R (out, k) for each matrix keep such products: E⟨LᵀĜR, Lᵀδ̂R⟩ = ⟨Ĝ, δ̂⟩, with a deviation of about ‖Ĝ‖ ‖δ̂‖ / √(m k²) for
m matrices (Johnson and Lindenstrauss 1984; two-sided as in LoGra, Choe et al. 2024).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from forwardinf_core.influence.language import LanguageModelling
from forwardinf_core.influence.language_curvature import LanguageCurvature, MatrixFisher
from forwardinf_core.influence.language_parts import recorded
from forwardinf_core.influence.network import Parameters
from forwardinf_core.influence.objective import Batch

SIDE = 16  # numbers a side of each matrix's code: 256 a matrix


@dataclass(frozen=True)
class Sketch:
    """How codes are made: the curvature with its damping, and the random signs of each matrix by weight."""

    curvature: LanguageCurvature
    damping: float
    signs: dict[str, tuple[Tensor, Tensor]]  # (in, k) and (out, k), ± 1/√k
    side: int  # k, where a matrix is not smaller

    @property
    def size(self) -> int:
        """Numbers of one code."""
        return sum(left.shape[1] * right.shape[1] for left, right in self.signs.values())

    def of_texts(self, module: nn.Module, objective: LanguageModelling, batch: Batch) -> Tensor:
        """Return the codes of a batch of texts, (n, size). Cost: a forward and a backward pass."""
        found = recorded(module, objective, [part.matrix for part in self.curvature.parts], batch)
        return self._joined([part.rotated(found) / self._root(part) for part in self.curvature.parts])

    def of_change(self, changes: Parameters) -> Tensor:
        """Return the code of a step δ, (size,): its product with a text's code is the text's score."""
        values = []
        for part in self.curvature.parts:
            change = changes[part.matrix.weight]
            value = change if part.matrix.is_transposed else change.T
            values.append((part.into_bases(value) * self._root(part)).unsqueeze(0))
        return self._joined(values)[0]

    def _root(self, part: MatrixFisher) -> Tensor:
        return (part.squares + self.curvature.damping_of(part, self.damping)).sqrt()

    def _joined(self, values: list[Tensor]) -> Tensor:
        codes = []
        for part, value in zip(self.curvature.parts, values, strict=True):
            left, right = self.signs[part.matrix.weight]
            codes.append((left.T @ value @ right).flatten(1))
        return torch.cat(codes, 1)


def drawn_sketch(curvature: LanguageCurvature, *, damping: float, side: int = SIDE, seed: int = 0) -> Sketch:
    """Return a sketch with signs drawn from the seed; the same curvature and seed give the same codes."""
    generator = torch.Generator().manual_seed(seed)

    def signs(rows: int) -> Tensor:
        columns = min(side, rows)
        return (2.0 * torch.randint(2, (rows, columns), generator=generator) - 1.0) / math.sqrt(columns)

    shapes = {part.matrix.weight: part.squares.shape for part in curvature.parts}
    drawn = {name: (signs(rows), signs(columns)) for name, (rows, columns) in shapes.items()}
    return Sketch(curvature, damping, drawn, side)
