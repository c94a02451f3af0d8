r"""(F + λI) x = g by conjugate gradients, with products F v that store no gradients.

Several queries share each read of the rows. A preconditioner (any fitted curvature at the same damping) makes few
iterations enough: the subspace needs 3 to 5 where plain conjugate gradients need 20 and more.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from forwardinf_core.influence.curvature.base import Curvature
from forwardinf_core.influence.curvature.gradients import Layout
from forwardinf_core.influence.curvature.products import summed_products
from forwardinf_core.influence.network import Network, Parameters, Rows, slices


class ConjugateGradient:
    """Solves by a fixed number of iterations; each reads all rows once, whatever the number of queries."""

    kind = "conjugate-gradient"

    def __init__(
        self,
        network: Network,
        rows: Rows,
        *,
        mean_squared_norm: float,
        iterations: int,
        batch_size: int = 100,
        preconditioner: Curvature | None = None,
    ) -> None:
        """``mean_squared_norm``: of the row gradients, as any fitted curvature of the same network holds it."""
        self.network = network
        self.rows = rows
        self.mean_squared_norm = mean_squared_norm
        self.iterations = iterations
        self.batch_size = batch_size
        self.preconditioner = preconditioner
        self.layout = Layout.of(network.parameters)

    def solve(self, gradients: list[Parameters], *, damping: float) -> list[Parameters]:
        solution = None
        for solution in self.iterate(gradients, damping=damping):  # noqa: B007 - the last one is the answer
            pass
        assert solution is not None
        return solution

    def iterate(self, gradients: list[Parameters], *, damping: float) -> Iterator[list[Parameters]]:
        """Yield the solutions after each iteration, so that a caller can show progress, stop, or compare."""
        damping_value = damping * self.mean_squared_norm
        residual = self.layout.flatten(gradients)  # (queries, p)
        solution = torch.zeros_like(residual)
        conditioned = self._precondition(residual, damping)
        direction = conditioned
        size = (residual * conditioned).sum(1, keepdim=True)
        for _ in range(self.iterations):
            product = self.fisher_products(direction) + damping_value * direction
            step = _ratio(size, (direction * product).sum(1, keepdim=True))
            solution = solution + step * direction
            residual = residual - step * product
            yield self.layout.unflatten(solution)
            conditioned = self._precondition(residual, damping)
            size_before, size = size, (residual * conditioned).sum(1, keepdim=True)
            direction = conditioned + _ratio(size, size_before) * direction

    def tensors(self) -> Parameters:
        """Return what must be stored: nothing but the preconditioner's own."""
        return {} if self.preconditioner is None else self.preconditioner.tensors()

    def fisher_products(self, directions: Tensor) -> Tensor:
        """Return F v for each direction, (directions, p)."""
        total = torch.zeros_like(directions)
        changes = self.layout.unflatten(directions)
        for start, stop in slices(len(self.rows), self.batch_size):
            total += self.layout.flatten(summed_products(self.network, self.rows.batch(start, stop), changes))
        return total / len(self.rows)

    def _precondition(self, residual: Tensor, damping: float) -> Tensor:
        if self.preconditioner is None:
            return residual
        return self.layout.flatten(self.preconditioner.solve(self.layout.unflatten(residual), damping=damping))


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """Return above / below, 0 where both vanish: a query that is solved, or has no gradient, stays where it is."""
    return torch.where(below > 0, above / below.clamp_min(torch.finfo(below.dtype).tiny), torch.zeros_like(above))
