r"""The mirrored influence hypothesis where training has one answer: multinomial logistic regression on pixels.

Train-to-test influence of row i on query T, by leaving the row out: L(A(D ∖ i), T) − L(A(D), T). Test-to-train
influence, by one mirrored fit per query: L(A(D), i) − L(A(D ∪ T), i). Both are positive where the row helps; the
hypothesis (Ko et al. 2024, section 3) is that over the rows they correlate. Every fit reaches its own optimum, so what
is compared is the hypothesis and not the optimiser.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forwardinf_core.errors import DataError
from forwardinf_core.verification.lds import spearman
from forwardinf_core.verification.logistic import LogisticRows
from forwardinf_core.verification.retraining import Examples

WEIGHT_DECAY = 0.01  # the released script's: C = 1 / (0.01 n)
N_ROWS = 4_900  # its training rows
N_EACH = 10  # queries with the highest loss, as in the paper, and as many drawn at random from the others
TOLERANCE = 1e-10  # of the gradient: a row's influence moves it by 1e-4 to 1e-7
LEAST_ROWS = 20
AT_ONCE = 120  # rows left out between two reports: one block of the solver

Floats = NDArray[np.float64]
Kept = Callable[[int, int, Callable[[], Tensor]], Tensor]
"""kept(start, stop, compute): the losses of rows start … stop − 1 left out, from where they are stored or computed."""


@dataclass(frozen=True)
class ConvexResult:
    """Both influences (n_queries, n_rows), positive = the row helps; ``highest`` marks queries chosen by their loss."""

    queries: NDArray[np.int64]  # positions among the queries offered
    highest: NDArray[np.bool_]
    losses: Floats  # of the queries under the fit on all rows
    train_to_test: Floats
    mirrored: Floats

    @property
    def pearson(self) -> Floats:
        """Correlation over the rows, per query."""
        return pearson(self.train_to_test.T, self.mirrored.T)

    @property
    def spearman(self) -> Floats:
        """Rank correlation over the rows, per query."""
        return spearman(self.train_to_test.T, self.mirrored.T)


def regression(rows: Examples, n_classes: int) -> LogisticRows:
    """Return the paper's regression on pixels / 255. Pixels that are 0 in every row are left out: they have no weight.

    Raises DataError where there are too few rows, or only one class.
    """
    n_labels = len(set(rows.labels.tolist()))
    if len(rows) < LEAST_ROWS or n_labels < 2:
        raise DataError(
            f"The hypothesis needs at least {LEAST_ROWS} labelled rows of two classes, and there are {len(rows)} of "
            f"{n_labels}.",
            hint="Give the project more labelled training rows.",
        )
    return LogisticRows(
        scaled(rows, living(rows)), rows.labels, n_classes=n_classes, l2=WEIGHT_DECAY, tolerance=TOLERANCE
    )


def living(rows: Examples) -> Tensor:
    """Return which pixels are not 0 in every row, (d,) bool."""
    return rows.inputs.flatten(1).amax(0) > 0


def scaled(rows: Examples, pixels: Tensor) -> Tensor:
    """Return the chosen pixels of each row as numbers from 0 to 1, (n, d) float64."""
    return rows.inputs.flatten(1)[:, pixels].double() / 255


def chosen_queries(losses: Tensor, each: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return positions of the queries with the highest loss and of others drawn at random, and which are which."""
    order = torch.argsort(losses, descending=True, stable=True).numpy()
    highest, others = order[:each], np.sort(order[each:])
    drawn = np.random.default_rng(seed).permutation(others)[:each]
    marks = np.arange(len(highest) + len(drawn)) < len(highest)
    return np.concatenate([highest, drawn]).astype(np.int64), marks


def both_influences(problem: LogisticRows, offered: Examples, *, each: int, seed: int, kept: Kept) -> ConvexResult:
    """Measure both influences of every row on queries among those ``offered``, whose inputs are features (m, d).

    ``kept`` is called once for each AT_ONCE rows left out. Cost: n + 2 · each refits, each a few products of rows.
    """
    n = len(problem.labels)
    pool = problem.extended(offered.inputs, offered.labels)
    everywhere = pool.losses(problem.fit.unsqueeze(0))[:, 0]
    positions, highest = chosen_queries(everywhere[n:], each, seed)
    asked = offered.at(positions)
    extended = problem.extended(asked.inputs, asked.labels)
    base = everywhere[n:][torch.from_numpy(positions)]

    def left_out(start: int, stop: int) -> Tensor:
        weightings = extended.base_weights.repeat(stop - start, 1)
        weightings[torch.arange(stop - start), torch.arange(start, stop)] = 0.0
        return extended.losses(extended.refit(weightings).weights, slice(n, None))  # (n_queries, stop - start)

    parts = []
    for start in range(0, n, AT_ONCE):
        stop = min(start + AT_ONCE, n)
        parts.append(kept(start, stop, lambda start=start, stop=stop: left_out(start, stop)))  # type: ignore[misc]
    train_to_test = torch.cat(parts, 1) - base.unsqueeze(1)
    weightings = extended.base_weights.repeat(len(asked), 1)
    weightings[torch.arange(len(asked)), n + torch.arange(len(asked))] = 1.0
    after = extended.losses(extended.refit(weightings).weights, slice(0, n)).T  # (n_queries, n)
    mirrored = everywhere[:n].unsqueeze(0) - after
    return ConvexResult(positions, highest, base.numpy(), train_to_test.numpy(), mirrored.numpy())


def pearson(a: Floats, b: Floats) -> Floats:
    """Return the correlation of the columns; NaN where a column is constant."""
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    size = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    product = (a * b).sum(axis=0)
    return np.asarray(np.divide(product, size, out=np.full_like(product, np.nan), where=size > 0))
