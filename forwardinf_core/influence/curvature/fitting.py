r"""How every curvature is fitted: sums over the rows, batch by batch, so that a killed fit goes on from its last chunk."""

from __future__ import annotations

from typing import Protocol, TypeVar

import torch

from forwardinf_core.influence.network import Parameters, Rows, slices
from forwardinf_core.influence.objective import Batch

Fitted = TypeVar("Fitted", covariant=True)


class Fit(Protocol[Fitted]):
    """One read of the rows: ``start``, ``accumulate`` every batch in order, ``finish``.

    The state is a plain dict of tensors that can be stored between any two batches; ``accumulate`` returns a new one
    and is deterministic, so a fit that was stopped and resumed on the same batches is bit-equal to one that was not.
    """

    def start(self) -> Parameters: ...

    def accumulate(self, state: Parameters, batch: Batch) -> Parameters: ...

    def finish(self, state: Parameters) -> Fitted: ...


def fitted(fit: Fit[Fitted], rows: Rows, batch_size: int) -> Fitted:
    """Run a fit over all rows in one go."""
    state = fit.start()
    for start, stop in slices(len(rows), batch_size):
        state = fit.accumulate(state, rows.batch(start, stop))
    return fit.finish(state)


class RowSubset:
    """Some of the rows, in ascending order. Neighbouring positions are read together."""

    def __init__(self, rows: Rows, positions: torch.Tensor) -> None:
        self.rows = rows
        self.positions: list[int] = sorted(positions.tolist())

    def __len__(self) -> int:
        return len(self.positions)

    def batch(self, start: int, stop: int) -> Batch:
        runs: list[list[int]] = []
        for position in self.positions[start:stop]:
            if runs and runs[-1][1] == position:
                runs[-1][1] = position + 1
            else:
                runs.append([position, position + 1])
        parts = [self.rows.batch(first, last) for first, last in runs]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def random_rows(rows: Rows, count: int, seed: int) -> Rows:
    """Return ``count`` rows drawn without replacement, or the rows themselves where there are no more than that."""
    if count >= len(rows):
        return rows
    generator = torch.Generator().manual_seed(seed)
    return RowSubset(rows, torch.randperm(len(rows), generator=generator)[:count])
