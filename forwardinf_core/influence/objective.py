r"""What a loss is: per-example losses and outputs of a batch, for one task. The only place that knows.

A batch is a dict of tensors whose first axis is the row. Nothing outside an objective knows what an image, a class
or a token is, so language models and diffusion models join by adding an objective here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

Batch = dict[str, Tensor]
"""Named tensors; the first axis of every one is the row."""


class Objective(Protocol):
    """Per-example losses of a batch for one task."""

    task: str

    def outputs(self, call: Callable[..., object], batch: Batch) -> Tensor:
        """Return the model's outputs for the batch, first axis the row. ``call`` is the module or a functional twin."""
        ...

    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the loss of each row, shape (n,), in float32 or better."""
        ...

    def unsaturated_losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return a loss (n,) whose gradient points the same way on one row but does not vanish on a fitted one."""
        ...

    def loss_changes(self, outputs: Tensor, change: Tensor, batch: Batch) -> Tensor:
        """Return loss(outputs + change) − loss(outputs) of each row, shape (n,), without cancellation."""
        ...

    def output_gradients(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return d loss_i / d outputs_i, the shape of ``outputs``."""
        ...


class Classification:
    r"""Cross-entropy over classes: images and texts alike.

    ``batch["label"]`` (n,) int64 holds the labels; every other entry is an input of the model, passed by position for
    the single entry ``"x"`` and by keyword otherwise. Outputs are logits (n, n_classes), converted to float32.
    """

    def __init__(self, task: str = "image-classification") -> None:
        self.task = task

    def outputs(self, call: Callable[..., object], batch: Batch) -> Tensor:
        inputs = {name: value for name, value in batch.items() if name != "label"}
        result = call(inputs["x"]) if set(inputs) == {"x"} else call(**inputs)
        logits = getattr(result, "logits", result)
        if isinstance(logits, tuple):
            logits = logits[0]
        assert isinstance(logits, Tensor)
        return logits if logits.dtype == torch.float64 else logits.float()

    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs, batch["label"], reduction="none")

    def unsaturated_losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        r"""Return the log-odds against the label: log Σ_{j≠y} exp z_j − z_y.

        Its gradient is that of the cross-entropy divided by (1 − p_y): the same direction, of useful size even where
        the row is fitted. A change of it by d multiplies the odds of the label by exp(−d).
        """
        label = batch["label"].unsqueeze(1)
        others = outputs.scatter(1, label, float("-inf"))
        return torch.logsumexp(others, 1) - outputs.gather(1, label).squeeze(1)

    def loss_changes(self, outputs: Tensor, change: Tensor, batch: Batch) -> Tensor:
        r"""Return log Σ_j p_j exp(Δ_j − Δ_y), with p the softmax of ``outputs``, Δ their change and y the label.

        The term j = y is exactly 0, so a row fitted to a loss of 1e-9 keeps its full relative precision; for a small
        change it is the change weighted by (p − y).
        """
        label = batch["label"].unsqueeze(1)
        return log_mean_exp(outputs.log_softmax(1), change - change.gather(1, label))

    def loss_changes_all_labels(self, outputs: Tensor, change: Tensor) -> Tensor:
        r"""Return the loss changes of each row under every label it could have, shape (n, n_classes).

        With r the predicted class: log Σ_j p_j exp(Δ_j − Δ_r) + Δ_r − Δ_c. The first term is what ``loss_changes``
        gives for the label r, precise on a fitted row too.
        """
        predicted = outputs.argmax(1)
        of_predicted = self.loss_changes(outputs, change, {"label": predicted}).unsqueeze(1)
        return of_predicted + (change.gather(1, predicted.unsqueeze(1)) - change)

    def output_gradients(self, outputs: Tensor, batch: Batch) -> Tensor:
        gradient = outputs.softmax(1)
        return gradient - F.one_hot(batch["label"], outputs.shape[1]).to(gradient.dtype)


def log_mean_exp(log_probabilities: Tensor, relative: Tensor) -> Tensor:
    r"""Return log Σ_j p_j exp(r_j) over the last axis, precise for small r and free of overflow for large."""
    probabilities = log_probabilities.exp()
    shifted = log_probabilities + relative
    small = probabilities * torch.expm1(relative.clamp(-1.0, 1.0))
    terms = torch.where(relative.abs() <= 1.0, small, shifted.exp() - probabilities)
    total = terms.sum(-1)  # Σ p_j (exp r_j − 1)
    return torch.where(total.abs() < PRECISE_BELOW, torch.log1p(total.clamp_min(-0.9)), shifted.logsumexp(-1))


PRECISE_BELOW = 0.5  # |Σ p_j exp(r_j) − 1| below which log1p keeps digits that the plain log-sum-exp would lose
