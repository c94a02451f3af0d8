r"""Logistic-regression heads on cached features, each judging rows that it was not fitted on.

The features come from a network that has seen every label, so this is not full cross-validation; it costs seconds.
Where the network itself is to be refitted, see ``networks``. Cost of one head: iterations × 2 n d c multiply-adds, in
blocks, so that thousands of classes need no matrix of rows × classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from forwardinf_core.audits.mislabels.opinions import Opinion
from forwardinf_core.influence.network import slices

BLOCK_NUMBERS = 1 << 22  # logits of one block, 16 MB
ITERATIONS = 60  # of L-BFGS: the held-out loss no longer moves in its third digit
PENALTIES = (1e-1, 1e-2, 1e-3)  # of the squared weights on standardised features, tried from strong to weak


@dataclass(frozen=True)
class Head:
    """A linear classifier on standardised features: weight (c, d), bias (c,)."""

    weight: Tensor
    bias: Tensor

    def log_probabilities(self, features: Tensor) -> Tensor:
        """Return (n, c)."""
        return F.linear(features, self.weight, self.bias).log_softmax(1)


def standardised(features: Tensor) -> Tensor:
    """Return features with mean 0 and spread 1 over the rows; a feature that never changes becomes 0."""
    features = features.float()
    spread, mean = torch.std_mean(features, 0, correction=0)
    return (features - mean) / torch.where(spread > 1e-6, spread, torch.inf)


def folds_of(labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Return the fold of every row, (n,), each class spread evenly over the folds."""
    generator = np.random.default_rng(seed)
    folds = np.empty(len(labels), np.int64)
    order = generator.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    folds[order] = np.arange(len(labels)) % count
    return folds


def fit_head(features: Tensor, targets: Tensor, n_classes: int, *, penalty: float, start: Head | None = None) -> Head:
    """Return the head with the least mean cross-entropy plus penalty/2 ‖W‖². ``targets`` (n,) are classes."""
    n, width = features.shape
    weight = torch.zeros(n_classes, width) if start is None else start.weight.clone()
    bias = torch.zeros(n_classes) if start is None else start.bias.clone()
    weight.requires_grad_(True)
    bias.requires_grad_(True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, history_size=10, line_search_fn="strong_wolfe")
    step = max(1, BLOCK_NUMBERS // n_classes)

    def closure() -> Tensor:
        optimiser.zero_grad(set_to_none=True)
        total = 0.5 * penalty * weight.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        value = total.detach()
        for first, last in slices(n, step):
            loss = F.cross_entropy(F.linear(features[first:last], weight, bias), targets[first:last], reduction="sum")
            (loss / n).backward()  # type: ignore[no-untyped-call]
            value = value + loss.detach() / n
        return value

    with torch.enable_grad():
        optimiser.step(closure)  # type: ignore[no-untyped-call]
    return Head(weight.detach(), bias.detach())


def judged(head: Head, features: Tensor, labels: Tensor) -> Opinion:
    """Return what a head says of rows, in blocks."""
    step = max(1, BLOCK_NUMBERS // len(head.bias))
    return Opinion.joined(
        [
            Opinion.of(head.log_probabilities(features[first:last]), labels[first:last])
            for first, last in slices(len(labels), step)
        ]
    )


def suitable_penalty(features: Tensor, labels: Tensor, n_classes: int, held_out: Tensor) -> float:
    """Return the penalty with the least loss on the rows marked in ``held_out`` (n,) bool; no truth is needed."""
    best, least = PENALTIES[0], math.inf
    head = None
    for penalty in PENALTIES:
        head = fit_head(features[~held_out], labels[~held_out], n_classes, penalty=penalty, start=head)
        loss = float(judged(head, features[held_out], labels[held_out]).loss().mean())
        if loss < least:
            best, least = penalty, loss
    return best


def held_out_opinion(
    features: Tensor,
    labels: Tensor,
    n_classes: int,
    folds: NDArray[np.int64],
    *,
    penalty: float,
    report: Callable[[int, int], None] = lambda _done, _total: None,
) -> Opinion:
    """Return what each row's held-out head says of it: one head a fold, fitted on the rows of the other folds."""
    fold_of = torch.from_numpy(folds)
    count = int(folds.max()) + 1
    parts: list[Opinion] = []
    order: list[Tensor] = []
    for fold in range(count):
        out = fold_of == fold
        head = fit_head(features[~out], labels[~out], n_classes, penalty=penalty)
        parts.append(judged(head, features[out], labels[out]))
        order.append(torch.nonzero(out).flatten())
        report(fold + 1, count)
    return Opinion.joined(parts).at(torch.cat(order).argsort())


def mean_opinion(opinions: Sequence[Tensor], labels: Tensor) -> Opinion:
    """Return the opinion of the mean probability of several models, each (n, c) log-probabilities."""
    mean = torch.logsumexp(torch.stack(list(opinions)), 0) - math.log(len(opinions))
    return Opinion.of(mean, labels)


def merged(opinions: Sequence[Opinion], labels: Tensor) -> Opinion:
    """Return the mean probability of several opinions, over the classes that any of them keeps for a row."""
    if len(opinions) == 1:
        return opinions[0]
    classes = torch.cat([opinion.classes for opinion in opinions], 1)
    shares = torch.cat([opinion.log_shares.exp() for opinion in opinions], 1) / len(opinions)
    # The same class kept by two opinions is one class: its shares are added up at its first place.
    same = classes.unsqueeze(2) == classes.unsqueeze(1)
    first = same.float().cumsum(2).eq(1).logical_and(same).float().argmax(2)
    total = torch.zeros_like(shares).scatter_add_(1, first, shares)
    kept, places = total.topk(opinions[0].classes.shape[1], dim=1)
    own = torch.stack([opinion.own.exp() for opinion in opinions]).mean(0)
    assert len(own) == len(labels)
    return Opinion(own.clamp_min(1e-30).log(), classes.gather(1, places), kept.clamp_min(1e-30).log())
