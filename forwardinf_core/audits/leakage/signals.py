"""How alike a query and every training row are, by each signal: blocks of a matrix, never all of it.

Every signal is a product of points of length 1, so it lies between −1 and 1, and a mirrored query counts where it fits
better. Each signal is also read relative to the query's own neighbourhood: how far a row stands out from the tenth
nearest. In a crowd of look-alikes being near means little; standing out means a copy.
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
CROWD = 10  # the neighbour that "stands out" is measured from: a row may have nine copies and still stand out
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
class Likeness:
    """Queries against all training rows: ``values`` and ``mirrored`` (s, q, n), ``crowd`` (s, q) the tenth best."""

    values: Tensor
    crowd: Tensor
    mirrored: Tensor

    def features(self) -> Tensor:
        """Return (q, n, 2 s): each signal, and how far it stands out."""
        lead = self.values - self.crowd.unsqueeze(2)
        return torch.cat([self.values, lead]).permute(1, 2, 0)


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
    rank = min(CROWD, stacked.shape[2])
    return Likeness(stacked, stacked.topk(rank, dim=2).values[:, :, -1], torch.stack(flipped))


def _placed(space: Space, rows: Tensor) -> Tensor:
    return torch.cat([space.place(rows[start:stop]) for start, stop in slices(len(rows), TRAIN_BLOCK)])
