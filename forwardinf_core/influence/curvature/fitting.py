r"""How every curvature is fitted: sums over the rows, batch by batch, so that a killed fit goes on where it stopped."""

from __future__ import annotations

from typing import Protocol, TypeVar

import torch
from torch import Tensor

from forwardinf_core.influence.network import Network, Parameters, Rows, slices
from forwardinf_core.influence.objective import Batch

Fitted = TypeVar("Fitted", covariant=True)

WEIGHT = "row_weight"  # entry of a batch of weighted rows: how many rows of the whole each stands for, (n,)
BISECTIONS = 60
LEAST_SIZE = 0.01


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


class SampledRows:
    """Some of the rows, in ascending order, each with a weight under ``WEIGHT``. Neighbours are read together."""

    def __init__(self, rows: Rows, positions: Tensor, weights: Tensor) -> None:
        order = positions.argsort()
        self.rows = rows
        self.positions: list[int] = positions[order].tolist()
        self.weights = weights[order]

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
        values = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return _weighted(values, self.weights[start:stop])


class LevelledRows:
    """All rows, each weighted by the mean size over its own size: a row of twice the gradient counts half as often."""

    def __init__(self, rows: Rows, sizes: Tensor) -> None:
        """``sizes``: (n,), positive, as ``gradient_sizes`` returns them."""
        self.rows = rows
        self.weights = sizes.mean() / sizes

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, start: int, stop: int) -> Batch:
        return _weighted(self.rows.batch(start, stop), self.weights[start:stop])


def _weighted(values: Batch, weights: Tensor) -> Batch:
    """Return a batch whose rows count for so many more than before."""
    return values | {WEIGHT: values[WEIGHT] * weights if WEIGHT in values else weights}


def sampled_rows(rows: Rows, sizes: Tensor, count: int, seed: int) -> Rows:
    """Return about ``count`` rows, drawn with probabilities as near to proportional to ``sizes`` (n,) as 1 allows.

    A row's weight is 1 / its probability, so weighted sums over the sample are unbiased. ``sizes`` are positive.
    """
    if count >= len(rows):
        return rows
    low, high = 0.0, float(count / sizes.min())
    for _ in range(BISECTIONS):  # Σ min(1, c · size) = count
        middle = (low + high) / 2
        low, high = (middle, high) if (middle * sizes).clamp_max(1).sum() < count else (low, middle)
    probabilities = (high * sizes).clamp_max(1).double()
    # systematic sampling: one row at each of evenly spaced marks on the running sum, so the number is count ± 1
    offset = torch.rand((), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    marks = (probabilities.cumsum(0) + offset).floor()
    chosen = (marks - torch.cat([offset.floor().unsqueeze(0), marks[:-1]])).nonzero().squeeze(1)
    return SampledRows(rows, chosen, (1 / probabilities[chosen]).float())


def gradient_sizes(network: Network, rows: Rows, batch_size: int) -> Tensor:
    """Return the norm of every row's loss gradient at the outputs, (n,): which rows the Fisher is made of, nearly.

    At least a hundredth of the mean, so that no row is beyond reach. Cost: one forward pass.
    """
    found = []
    for start, stop in slices(len(rows), batch_size):
        batch = rows.batch(start, stop)
        with torch.no_grad():
            outputs = network.outputs({}, batch)
        found.append(network.objective.output_gradients(outputs, batch).flatten(1).norm(dim=1))
    sizes = torch.cat(found)
    return sizes.clamp_min(float(sizes.mean()) * LEAST_SIZE)
