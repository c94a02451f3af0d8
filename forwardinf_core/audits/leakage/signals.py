"""How alike a query and every training row are, by each signal: blocks of a matrix, never all of it.

Every signal is a product of points of length 1, so it lies between −1 and 1, and a mirrored query counts where it fits
better. Each signal is also read relative to the query's own neighbourhood: how far a row stands out from the tenth
nearest. In a crowd of look-alikes being near means little; standing out means a copy. Copies of one picture are no
crowd: once the families among the training rows are known (groups.py), each counts as one row.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from forwardinf_core.audits.leakage.medium import GREY, HASH, LETTERS, PATCHES, WORDS
from forwardinf_core.audits.leakage.traces import Traces
from forwardinf_core.influence.likeness import Space, fitted_space, plain_space
from forwardinf_core.influence.network import slices
from forwardinf_core.influence.probe import FEATURES, HALFWAY

PLAIN_SIGNALS = (HASH, GREY, LETTERS, WORDS)
SIGNALS = (*PLAIN_SIGNALS, PATCHES, HALFWAY, FEATURES)  # those a model and its rows have, in this order
CROWD = 10  # the neighbour that "stands out" is measured from, each family counted once
FAR = 64  # nearest rows kept by each signal: families are found by how far their rows stand out from the last of these
BLOCK_NUMBERS = 1 << 21  # of one signal's block of the matrix, 8 MB
TRAIN_BLOCK = 4_096


@dataclass(frozen=True)
class Spaces:
    """The space of each signal this model has, and the training rows in it where that is cheap to keep."""

    spaces: dict[str, Space]
    train: dict[str, Tensor]  # (n_train, k), rows of length 1

    @property
    def names(self) -> tuple[str, ...]:
        """The signals, in the order of the columns of everything computed from them."""
        return tuple(self.spaces)

    @property
    def n_train(self) -> int:
        return len(next(iter(self.train.values())))


@dataclass(frozen=True)
class Nearest:
    """The training rows nearest to each query by each signal, the best first: ``values`` and ``rows`` (q, s, k)."""

    values: Tensor
    rows: Tensor

    def crowd(self, families: Tensor | None = None) -> Tensor:
        """Return (q, s): how near the tenth row is, or the tenth family; the last one kept where there are fewer.

        ``families`` (n,): a number for each training row, the same for copies of each other.
        """
        if families is None:
            return self.values[:, :, min(CROWD, self.values.shape[2]) - 1]
        met = is_first_of_its_kind(families[self.rows]).cumsum(2)
        place = (met < CROWD).sum(2, keepdim=True).clamp_max(self.values.shape[2] - 1)
        return self.values.gather(2, place).squeeze(2)

    def far(self) -> Tensor:
        """Return (q, s): how near the last row kept is; a family of dozens stands out from it."""
        return self.values[:, :, -1]


@dataclass(frozen=True)
class Likeness:
    """Queries against all training rows: ``values`` and ``mirrored`` (s, q, n)."""

    values: Tensor
    nearest: Nearest
    mirrored: Tensor

    def features(self) -> Tensor:
        """Return (q, n, 2 s): each signal, and how far it stands out from the tenth nearest row."""
        return standing_out(self.values.permute(1, 2, 0), self.nearest.crowd())

    def of_rows(self, rows: Tensor) -> Tensor:
        """Return the signals of some rows of each query, rows (q, k) → (q, k, s)."""
        return self.values.permute(1, 2, 0)[torch.arange(len(rows)).unsqueeze(1), rows]


def fit_spaces(train: Traces) -> dict[str, Space]:
    """Return the space of every signal, fitted to the training rows.

    Patches and activations are whitened: a few directions that all rows share would make up most of every product,
    and a copy is told by the others.
    """
    spaces: dict[str, Space] = {}
    for name in SIGNALS:
        if name in train.parts:
            rows = train.parts[name]
            spaces[name] = plain_space(rows.shape[1]) if name in PLAIN_SIGNALS else fitted_space(rows, whiten=True)
    return spaces


def placed(spaces: dict[str, Space], rows: Traces) -> Spaces:
    """Return spaces holding rows, for a search among those."""
    return Spaces(spaces, {name: _placed(space, rows.parts[name]) for name, space in spaces.items()})


def query_block(spaces: Spaces) -> int:
    """Return how many queries are compared at once, so that memory stays within bounds for any number of rows."""
    return max(1, min(256, BLOCK_NUMBERS // spaces.n_train))


def likeness(spaces: Spaces, queries: Traces, mirrored: Traces | None, *, excluded: Tensor | None = None) -> Likeness:
    """Compare queries with all training rows. ``excluded`` (q,): the training row a query is itself, −1 for none."""
    values, flipped = [], []
    for name in spaces.names:
        own = spaces.spaces[name].place(queries.parts[name]) @ spaces.train[name].T
        if mirrored is None:
            flipped.append(torch.zeros_like(own, dtype=torch.bool))
        else:
            other = spaces.spaces[name].place(mirrored.parts[name]) @ spaces.train[name].T
            flipped.append(other > own)
            own = torch.maximum(own, other)
        if excluded is not None:
            chosen = torch.nonzero(excluded >= 0).flatten()
            own[chosen, excluded[chosen]] = -1.0
        values.append(own)
    stacked = torch.stack(values)
    others = stacked.shape[2] - (excluded is not None)
    near, rows = stacked.topk(min(FAR, max(others, 1)), dim=2)
    return Likeness(stacked, Nearest(near.transpose(0, 1), rows.int().transpose(0, 1)), torch.stack(flipped))


def standing_out(values: Tensor, crowd: Tensor) -> Tensor:
    """Return (q, k, 2 s): the signals of pairs, (q, k, s), and how far each stands out from the crowd, (q, s)."""
    return torch.cat([values, values - crowd.unsqueeze(1)], dim=2)


def is_first_of_its_kind(numbers: Tensor) -> Tensor:
    """Say of each number along the last axis whether it has not come before."""
    in_order, order = numbers.sort(dim=-1, stable=True)
    new = torch.ones_like(in_order, dtype=torch.bool)
    new[..., 1:] = in_order[..., 1:] != in_order[..., :-1]
    return torch.zeros_like(new).scatter(-1, order, new)


def _placed(space: Space, rows: Tensor) -> Tensor:
    return torch.cat([space.place(rows[start:stop]) for start, stop in slices(len(rows), TRAIN_BLOCK)])
