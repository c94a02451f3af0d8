r"""Mirrored influence on the head: learn some rows a little, then read the loss of every training row.

A group (trusted rows; without them, the other half of the training rows) is learnt by K steps of Adam on the head, and
a row is suspicious where its loss after that is high: wrong labels are what the group speaks against. How many steps of
which size is chosen on rows of the group that the steps do not see. The curvature step (F + λI)⁻¹g takes one such step
with the head's Fisher matrix, its length chosen the same way. All of it on cached features: seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from forwardinf_core.audits.mislabels.heads import BLOCK_NUMBERS, Head, judged
from forwardinf_core.audits.mislabels.opinions import Opinion
from forwardinf_core.influence.network import slices

RATES = (1e-3, 3e-3, 1e-2)  # of Adam
STEPS = (1, 2, 5, 10, 20)
LENGTHS = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0)  # of the curvature step, in units of (F + λI)⁻¹g
HELD_BACK = 0.5  # of the group: rows that choose steps and rate


@dataclass(frozen=True)
class Step:
    """How far the head was moved, recorded with the run."""

    rate: float
    steps: int
    held_back_before: float  # mean loss of the held-back rows of the group under the unmoved head
    held_back_after: float


def moved(head: Head, features: Tensor, labels: Tensor, *, rate: float, steps: int) -> Head:
    """Return the head after steps of Adam on the mean loss of the group."""
    return _path(head, features, labels, rate, [steps])[steps]


def group_step(head: Head, features: Tensor, labels: Tensor, *, seed: int) -> tuple[Head, Step]:
    """Return the head moved towards a group, with rate and number of steps chosen on its held-back half.

    Where no step lowers the held-back loss, the head stays as it is, with 0 steps.
    """
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    cut = max(1, round((1 - HELD_BACK) * len(labels)))
    learnt, watched = order[:cut], order[cut:]
    before = _loss(head, features[watched], labels[watched]) if len(watched) else float("inf")
    best = Step(0.0, 0, before, before)
    for rate in RATES:
        for steps, candidate in _path(head, features[learnt], labels[learnt], rate, STEPS).items():
            after = _loss(candidate, features[watched], labels[watched]) if len(watched) else float("inf")
            if after < best.held_back_after:
                best = Step(rate, steps, before, after)
    if not best.steps:
        return head, best
    return moved(head, features, labels, rate=best.rate, steps=best.steps), best


def halves_opinion(head: Head, features: Tensor, labels: Tensor, folds: Tensor, *, seed: int) -> Opinion:
    """Return what heads moved towards the rows of the other half say of each row: no trusted rows needed."""
    parts, order = [], []
    for half in (0, 1):
        here = folds % 2 == half
        other, _ = group_step(head, features[~here], labels[~here], seed=seed)
        parts.append(judged(other, features[here], labels[here]))
        order.append(torch.nonzero(here).flatten())
    return Opinion.joined(parts).at(torch.cat(order).argsort())


def curvature_head(head: Head, change: Head, features: Tensor, labels: Tensor) -> tuple[Head, float]:
    """Return the head moved along a solved step as far as lowers the loss of these rows most, and how far that is."""
    losses = [_loss(_along(head, change, length), features, labels) for length in LENGTHS]
    length = LENGTHS[losses.index(min(losses))]
    return _along(head, change, length), length


def speaking_against(
    head: Head, features: Tensor, labels: Tensor, trusted: tuple[Tensor, Tensor], count: int
) -> Tensor:
    r"""Return for each row the trusted rows (n, ≤ count) that raise its loss most when they are learnt; −1 = none.

    With unit residuals r = (p − y) / ‖p − y‖, one small step on trusted row t changes the loss of row i in proportion
    to −(r_i · r_t)([φ_i, 1] · [φ_t, 1]); rows that a model has fitted still have a direction.
    """
    theirs, their_labels = trusted
    directions = _residuals(head, theirs, their_labels)
    count = min(count, len(their_labels))
    found = []
    for start, stop in slices(len(labels), max(1, BLOCK_NUMBERS // max(len(their_labels), len(head.bias)))):
        own = _residuals(head, features[start:stop], labels[start:stop])
        effect = (own @ directions.T) * (features[start:stop] @ theirs.T + 1.0)
        values, rows = (-effect).topk(count, dim=1)
        found.append(rows.masked_fill(values <= 0, -1))
    return torch.cat(found)


def _residuals(head: Head, features: Tensor, labels: Tensor) -> Tensor:
    residuals = head.log_probabilities(features).exp()
    residuals[torch.arange(len(labels)), labels] -= 1.0
    return F.normalize(residuals, dim=1)


def _along(head: Head, change: Head, length: float) -> Head:
    return Head(head.weight - length * change.weight, head.bias - length * change.bias)


def _loss(head: Head, features: Tensor, labels: Tensor) -> float:
    return float(judged(head, features, labels).loss().mean())


def _path(
    head: Head, features: Tensor, labels: Tensor, rate: float, stops: list[int] | tuple[int, ...]
) -> dict[int, Head]:
    """Return the heads after each number of steps in ``stops``, of one run of Adam."""
    weight, bias = head.weight.clone().requires_grad_(True), head.bias.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([weight, bias], lr=rate)
    block = max(1, BLOCK_NUMBERS // len(bias))
    found = {}
    with torch.enable_grad():
        for step in range(1, max(stops) + 1):
            optimiser.zero_grad(set_to_none=True)
            for start, stop in slices(len(labels), block):
                logits = F.linear(features[start:stop], weight, bias)
                loss = F.cross_entropy(logits, labels[start:stop], reduction="sum") / len(labels)
                loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            if step in stops:
                found[step] = Head(weight.detach().clone(), bias.detach().clone())
    return found
