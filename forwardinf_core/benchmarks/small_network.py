"""A network small enough to train hundreds at once: one hidden layer on pixels, all copies in the same products.

For the memorization reference on digits: 200 networks on random halves take seconds instead of minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forwardinf_core.verification.retraining import Examples, Outcome, Task

HIDDEN, EPOCHS, BATCH = 64, 60, 64
RATE, WEIGHT_DECAY = 3e-3, 1e-4  # of AdamW


@dataclass(frozen=True)
class SmallNetworks:
    """One hidden layer of HIDDEN units on the pixels of ``rows``, scaled to 0 … 1 and centred."""

    rows: Examples
    n_classes: int

    def inputs(self) -> Tensor:
        """Return the rows as the network takes them, (n, pixels)."""
        values = self.rows.inputs.flatten(1).float() / 255
        return values - values.mean(0)

    def outcomes(self, tasks: Sequence[Task]) -> list[Outcome]:
        """Train a network for each task, all with subsets of one size, and watch all rows."""
        weights = self._trained(tasks)
        outputs = _forward(weights, self.inputs().expand(len(tasks), -1, -1))
        return [Outcome(one, self.rows.labels) for one in outputs]

    def module(self, task: Task) -> nn.Sequential:
        """Return the network trained for one task."""
        weights = [value[0] for value in self._trained([task])]
        first, last = nn.Linear(weights[0].shape[0], HIDDEN), nn.Linear(HIDDEN, self.n_classes)
        for layer, weight, bias in ((first, weights[0], weights[1]), (last, weights[2], weights[3])):
            layer.weight = nn.Parameter(weight.T.contiguous())
            layer.bias = nn.Parameter(bias[0].clone())
        module = nn.Sequential(first, nn.ReLU(), last)
        return module.eval()

    def _trained(self, tasks: Sequence[Task]) -> list[Tensor]:
        """Return weights with the networks as their first axis: (m, d, h), (m, 1, h), (m, h, c), (m, 1, c)."""
        inputs, labels = self.inputs(), self.rows.labels
        subsets = torch.stack([torch.as_tensor(task.subset) for task in tasks])  # (m, n)
        made = [self._first(task.seed, inputs.shape[1]) for task in tasks]
        weights = [torch.stack(parts).requires_grad_() for parts in zip(*made, strict=True)]
        optimiser = torch.optim.AdamW(weights, lr=RATE, weight_decay=WEIGHT_DECAY)
        generators = [torch.Generator().manual_seed(task.seed) for task in tasks]
        for _ in range(EPOCHS):
            order = torch.stack([torch.randperm(subsets.shape[1], generator=one) for one in generators])
            for batch in subsets.gather(1, order).tensor_split(tuple(range(BATCH, subsets.shape[1], BATCH)), dim=1):
                outputs = _forward(weights, inputs[batch])
                loss = F.cross_entropy(outputs.flatten(0, 1), labels[batch].flatten(), reduction="sum") / batch.shape[1]
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
        return [weight.detach() for weight in weights]

    def _first(self, seed: int, n_inputs: int) -> list[Tensor]:
        generator = torch.Generator().manual_seed(seed)
        shapes = ((n_inputs, HIDDEN), (1, HIDDEN), (HIDDEN, self.n_classes), (1, self.n_classes))
        return [
            torch.randn(shape, generator=generator) * (2 / shape[0]) ** 0.5 if shape[0] > 1 else torch.zeros(shape)
            for shape in shapes
        ]


def _forward(weights: Sequence[Tensor], inputs: Tensor) -> Tensor:
    """Return outputs (m, n, c) of m networks on inputs (m, n, d)."""
    hidden = torch.relu(torch.baddbmm(weights[1], inputs, weights[0]))
    return torch.baddbmm(weights[3], hidden, weights[2])
