"""The nearest rows of every row by the cosine of their features, and how many of them carry its label."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from forwardinf_core.influence.network import slices

VOTERS = 100  # rows that vote on a label; fewer are noisier, more reach into other classes of a small set
SHOWN = 30  # of them are kept, for a person to look at
BLOCK_NUMBERS = 1 << 23  # similarities of one block, 32 MB


def nearest_rows(
    features: Tensor, count: int, *, report: Callable[[int, int], None] = lambda _done, _total: None
) -> Tensor:
    """Return the positions (n, ≤ count) of every row's nearest others, nearest first. Exact; n² d multiply-adds."""
    directions = F.normalize(features.float(), dim=1)
    n = len(directions)
    count = min(count, n - 1)
    found = []
    for start, stop in slices(n, max(1, BLOCK_NUMBERS // n)):
        similar = directions[start:stop] @ directions.T
        similar[torch.arange(stop - start), torch.arange(start, stop)] = float("-inf")
        found.append(similar.topk(count, dim=1).indices)
        report(stop, n)
    return torch.cat(found)


def disagreement(nearest: Tensor, labels: Tensor) -> Tensor:
    """Return the share of a row's nearest rows with another label, (n,)."""
    return (labels[nearest] != labels.unsqueeze(1)).float().mean(1)
