r"""The head's empirical Fisher where it is too large for a dense matrix: thousands of classes or features.

Products F v = (1/n) Σ (r_iᵀ V φ_i) r_i φ_iᵀ need two matrix products with the features and nothing of the size rows ×
parameters; conjugate gradients on them are preconditioned by a Kronecker product fitted in one read (K-FAC, Martens and
Grosse 2015, which for one linear layer needs no assumption but that of independent factors).
"""

from __future__ import annotations

import torch
from torch import Tensor

from forwardinf_core.influence.curvature.conjugate_gradient import ConjugateGradient
from forwardinf_core.influence.head import HeadNames, HeadNetwork, outer
from forwardinf_core.influence.network import Parameters, Rows, slices
from forwardinf_core.influence.objective import Batch

PRODUCT_NUMBERS = 1 << 22  # numbers of one block of logit changes, 16 MB
_ROWS, _INPUTS, _RESIDUALS, _NORM, _NAME = "rows", "inputs", "residuals", "mean_squared_norm", "name|"


class HeadFactors:
    r"""The Kronecker product B ⊗ A with B = (1/n) Σ r rᵀ, A = Σ ‖r‖² φφᵀ / Σ ‖r‖², which has the trace of F."""

    kind = "head-factors"

    def __init__(self, names: HeadNames, residuals: Tensor, inputs: Tensor) -> None:
        """``residuals``: B (c, c). ``inputs``: A (d + 1, d + 1)."""
        self.names = names
        self.residuals = residuals
        self.inputs = inputs
        self.mean_squared_norm = float(residuals.trace().double() * inputs.trace())
        self._left, self._left_basis = torch.linalg.eigh(residuals)
        self._right, self._right_basis = torch.linalg.eigh(inputs)

    def solve(self, gradients: list[Parameters], *, damping: float) -> list[Parameters]:
        """Return (B ⊗ A + λI)⁻¹ g for each gradient."""
        scale = outer(self._left.clamp_min(0).unsqueeze(0), self._right.clamp_min(0).unsqueeze(0))
        scale = scale.view(len(self._left), -1) + damping * self.mean_squared_norm
        left, right = self._left_basis, self._right_basis
        solved = [left @ (left.T @ self.names.matrix(one) @ right / scale) @ right.T for one in gradients]
        return [self.names.parameters(one) for one in solved]

    def tensors(self) -> Parameters:
        """Return what must be stored; the names of the parameters are names of tensors."""
        names = {f"{_NAME}{name}": torch.zeros(0) for name in (self.names.weight, self.names.bias) if name}
        return {_RESIDUALS: self.residuals, _INPUTS: self.inputs} | names

    @classmethod
    def from_tensors(cls, tensors: Parameters) -> HeadFactors:
        """Build it again from what ``tensors`` returned."""
        names = HeadNames.of(name.removeprefix(_NAME) for name in tensors if name.startswith(_NAME))
        return cls(names, tensors[_RESIDUALS], tensors[_INPUTS])


class HeadFactorsFit:
    """One read of the rows: both factors. Cost: a product (d, n) @ (n, d) and one (c, n) @ (n, c)."""

    def __init__(self, network: HeadNetwork) -> None:
        self.network = network

    def start(self) -> Parameters:
        """Return the empty sums."""
        matrix = self.network.names.matrix(self.network.parameters)
        n_outputs, n_inputs = matrix.shape
        return {
            _ROWS: torch.zeros((), dtype=torch.int64),
            _RESIDUALS: matrix.new_zeros(n_outputs, n_outputs),
            _INPUTS: matrix.new_zeros(n_inputs, n_inputs),
        }

    def accumulate(self, state: Parameters, batch: Batch) -> Parameters:
        """Return the sums with a batch added."""
        inputs, residuals = self.network.inputs(batch), self.network.residuals(batch)
        weighted = inputs * residuals.square().sum(1, keepdim=True)
        return {
            _ROWS: state[_ROWS] + len(inputs),
            _RESIDUALS: state[_RESIDUALS] + residuals.T @ residuals,
            _INPUTS: state[_INPUTS] + weighted.T @ inputs,
        }

    def finish(self, state: Parameters) -> HeadFactors:
        """Return the curvature."""
        total = state[_RESIDUALS].trace()  # Σ ‖r‖²
        return HeadFactors(self.network.names, state[_RESIDUALS] / state[_ROWS], state[_INPUTS] / total)


class HeadConjugateGradient(ConjugateGradient):
    """Solves with the exact empirical Fisher of the head; ``rows`` and ``base_logits`` may be memory-mapped."""

    kind = "head-conjugate-gradient"

    def __init__(
        self,
        network: HeadNetwork,
        rows: Rows,
        base_logits: Tensor,
        *,
        preconditioner: HeadFactors,
        iterations: int = 30,
    ) -> None:
        """``base_logits`` (n, c): the outputs of the unchanged head on the rows."""
        norm = preconditioner.mean_squared_norm
        super().__init__(network, rows, mean_squared_norm=norm, iterations=iterations, preconditioner=preconditioner)
        self.head = network
        self.base_logits = base_logits

    def fisher_products(self, directions: Tensor) -> Tensor:
        """Return F v for each direction, (directions, p). Cost: two matrix products with the features."""
        names = self.head.names
        changes = torch.stack([names.matrix(one) for one in self.layout.unflatten(directions)])  # (q, c, d + 1)
        n_directions, n_outputs, n_inputs = changes.shape
        total = torch.zeros_like(changes)
        for start, stop in slices(len(self.rows), max(1, PRODUCT_NUMBERS // (n_directions * n_outputs))):
            batch = self.rows.batch(start, stop)
            inputs = self.head.inputs(batch)
            residuals = self.head.objective.output_gradients(self.base_logits[start:stop], batch)
            moves = (inputs @ changes.view(-1, n_inputs).T).view(-1, n_directions, n_outputs)
            products = torch.einsum("nqc,nc->nq", moves, residuals)  # g_i·v of every row
            total.view(-1, n_inputs).addmm_(outer(products, residuals).T, inputs)
        return self.layout.flatten([names.parameters(one) for one in total / len(self.rows)])
