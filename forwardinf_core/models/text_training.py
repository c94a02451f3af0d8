"""Trains the built-in text classifier: cross-entropy, dropout, words left out at random."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forwardinf_core.errors import DataError
from forwardinf_core.influence.network import slices
from forwardinf_core.influence.objective import Batch
from forwardinf_core.models.language_training import LanguageState, LanguageTraining, train_sequences
from forwardinf_core.models.text_baseline import UNKNOWN_ID
from forwardinf_core.models.text_encoding import IDS, MASK

EVALUATION_BATCH = 200


@dataclass(frozen=True, slots=True)
class TextTraining:
    """How to train, stored beside the weights it led to."""

    epochs: int = 12
    rows: int = 32  # of a batch, on average
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    dropout: float = 0.5
    words_left_out: float = 0.1  # share of the words that are unknown in a pass
    width: int = 96
    most_tokens: int = 10_000  # of the vocabulary
    seed: int = 0


def train_text(
    module: nn.Module,
    encoded: Batch,
    labels: Tensor,
    options: TextTraining,
    *,
    resume: LanguageState | None = None,
    on_epoch: Callable[[LanguageState], None] | None = None,
) -> tuple[float, ...]:
    """Train in place, leave the module in eval mode and return the mean loss of a row in each epoch.

    ``encoded`` holds ``input_ids`` and ``attention_mask`` (n, length); rows whose label is −1 are left out. Raises
    DataError with fewer than two labelled rows and ModelError when the loss is no longer a number.
    """
    chosen = torch.nonzero(labels >= 0).flatten()
    if len(chosen) < 2:
        raise DataError(
            f"Training needs at least 2 labelled rows, and there are {len(chosen)}.",
            hint="Add rows, or check which column holds the labels.",
        )
    lengths = encoded[MASK][chosen].sum(1).tolist()

    def batch_of(positions: Sequence[int]) -> Batch:
        rows = chosen[list(positions)]
        width = max(lengths[position] for position in positions)  # padding is masked, so less of it changes nothing
        ids, mask = encoded[IDS][rows, :width], encoded[MASK][rows, :width]
        left_out = torch.rand(ids.shape) < options.words_left_out
        return {IDS: ids.masked_fill(left_out & (mask > 0), UNKNOWN_ID), MASK: mask, "label": labels[rows]}

    def loss_of(model: nn.Module, batch: Batch) -> tuple[Tensor, int]:
        logits = model(batch[IDS], batch[MASK])
        return F.cross_entropy(logits, batch["label"], reduction="sum"), len(logits)

    training = LanguageTraining(
        epochs=options.epochs,
        batch_tokens=max(options.rows * sum(lengths) // len(lengths), max(lengths)),
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        seed=options.seed,
    )
    return train_sequences(module, loss_of, lengths, batch_of, training, resume=resume, on_epoch=on_epoch)


@torch.inference_mode()
def accuracy(module: nn.Module, encoded: Batch, labels: Tensor) -> float:
    """Return the share of labelled rows the module gets right; NaN where none has a label."""
    right = torch.zeros(len(labels), dtype=torch.bool)
    for start, stop in slices(len(labels), EVALUATION_BATCH):
        logits = module(encoded[IDS][start:stop], encoded[MASK][start:stop])
        right[start:stop] = logits.argmax(1) == labels[start:stop]
    return float(right[labels >= 0].float().mean())
