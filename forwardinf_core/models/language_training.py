"""Trains a model on sequences of tokens: AdamW, one learning-rate cycle, batches of sequences of like length.

Used by ``fit`` (language models and text classifiers), by the demo and by every retraining without some texts. The
result depends on the sequences, the options and the number of threads alone: batches and dropout of an epoch come from
(seed, epoch), so training interrupted after any epoch and resumed ends in the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forwardinf_core.errors import DataError, ModelError
from forwardinf_core.influence.language import LanguageModelling
from forwardinf_core.influence.objective import Batch

LossOf = Callable[[nn.Module, Batch], tuple[Tensor, int]]
"""Returns the summed loss of a batch and how many losses it is the sum of."""
POOL_BATCHES = 40  # sequences of so many batches are sorted by length together: little padding, still shuffled


@dataclass(frozen=True, slots=True)
class LanguageTraining:
    """How to train, stored beside the weights it led to. ``batch_tokens`` counts padding too."""

    epochs: int = 8
    batch_tokens: int = 1_024
    learning_rate: float = 2e-3  # at the top of the cycle
    warm_up: float = 0.1  # share of the steps that the learning rate rises; then it falls to 0 as a cosine
    weight_decay: float = 0.01  # of matrices
    beta1: float = 0.9
    beta2: float = 0.98
    largest_norm: float = 1.0  # of the gradient
    seed: int = 0


@dataclass(frozen=True, slots=True)
class LanguageState:
    """Everything needed to go on after an epoch. Its tensors are copies and stay as they are."""

    weights: dict[str, Tensor]  # by parameter name
    first: dict[str, Tensor]  # Adam's running means
    second: dict[str, Tensor]
    steps: int
    losses: tuple[float, ...]  # mean loss of each epoch

    @property
    def epoch(self) -> int:
        """Number of finished epochs."""
        return len(self.losses)

    def tensors(self) -> dict[str, Tensor]:
        """Return the state as named tensors, as ``from_tensors`` reads them back."""
        parts = {"weights": self.weights, "first": self.first, "second": self.second}
        named = {f"{part}/{name}": value for part, values in parts.items() for name, value in values.items()}
        losses = torch.tensor(self.losses, dtype=torch.float64)
        return named | {"losses": losses, "steps": torch.tensor([self.steps])}

    @staticmethod
    def from_tensors(tensors: dict[str, Tensor]) -> LanguageState:
        """Return the state that ``tensors`` wrote."""

        def part(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

        losses = tuple(tensors["losses"].tolist())
        return LanguageState(part("weights/"), part("first/"), part("second/"), int(tensors["steps"]), losses)


def train_language(
    module: nn.Module,
    objective: LanguageModelling,
    lengths: Sequence[int],
    batch_of: Callable[[Sequence[int]], Batch],
    options: LanguageTraining,
    *,
    resume: LanguageState | None = None,
    on_epoch: Callable[[LanguageState], None] | None = None,
) -> tuple[float, ...]:
    """Train a language model in place, leave it in eval mode and return the mean loss of a token in each epoch.

    See ``train_sequences``.
    """

    def loss_of(model: nn.Module, batch: Batch) -> tuple[Tensor, int]:
        logits, targets = objective.outputs(model, batch), objective.targets(batch)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="sum")
        return loss, int((targets != -100).sum())

    return train_sequences(module, loss_of, lengths, batch_of, options, resume=resume, on_epoch=on_epoch)


def train_sequences(
    module: nn.Module,
    loss_of: LossOf,
    lengths: Sequence[int],
    batch_of: Callable[[Sequence[int]], Batch],
    options: LanguageTraining,
    *,
    resume: LanguageState | None = None,
    on_epoch: Callable[[LanguageState], None] | None = None,
) -> tuple[float, ...]:
    """Train ``module`` in place, leave it in eval mode and return the mean loss of each epoch.

    ``batch_of(positions)`` returns sequences as a batch; ``lengths`` are theirs in tokens. ``on_epoch`` is called
    after every epoch with the state to resume from; what it raises ends the training. Raises DataError without
    sequences and ModelError when the loss is no longer a number.
    """
    if not len(lengths):
        raise DataError("There is no text to train on.", hint="Every text needs at least two tokens.")
    optimiser = _optimiser(module, options)
    losses: tuple[float, ...] = ()
    if resume is not None:
        losses = resume.losses
        _restore(module, optimiser, resume)
    steps = 0 if resume is None else resume.steps
    while len(losses) < options.epochs:
        epoch = len(losses)
        batches = batches_of(lengths, options, epoch)
        total, count = 0.0, 0
        module.train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed * 1_000_003 + epoch)  # dropout, and what ``batch_of`` draws
            for step, positions in enumerate(batches):
                rate = learning_rate((epoch + (step + 0.5) / len(batches)) / options.epochs, options)
                loss, n_losses = _step(module, loss_of, batch_of(positions), optimiser, rate, options)
                total, count, steps = total + loss, count + n_losses, steps + 1
        losses = (*losses, total / max(count, 1))
        if not math.isfinite(losses[-1]):
            raise ModelError(
                f"Training failed in epoch {epoch + 1}: the loss is {losses[-1]}.",
                hint=f"A learning rate below {options.learning_rate:g} usually helps.",
            )
        if on_epoch is not None:
            on_epoch(_state(module, optimiser, steps, losses))
    module.eval()
    return losses


def batches_of(lengths: Sequence[int], options: LanguageTraining, epoch: int) -> list[list[int]]:
    """Return the batches of an epoch as positions: every sequence once, neighbours in a batch of like length."""
    generator = np.random.default_rng([options.seed, epoch])
    order = generator.permutation(len(lengths))
    sizes = np.asarray(lengths)
    pool = max(1, POOL_BATCHES * options.batch_tokens // max(int(sizes.mean()), 1))
    batches: list[list[int]] = []
    for start in range(0, len(order), pool):
        chosen = order[start : start + pool]
        batches += bounded(chosen[np.argsort(sizes[chosen], kind="stable")].tolist(), lengths, options.batch_tokens)
    return [batches[index] for index in generator.permutation(len(batches))]


def bounded(order: Sequence[int], lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Cut an order of sequences into batches of at most ``batch_tokens`` tokens with padding, or one sequence."""
    batches: list[list[int]] = []
    longest = 0
    for position in order:
        longest = max(longest, lengths[position]) if batches and batches[-1] else lengths[position]
        if batches and longest * (len(batches[-1]) + 1) <= batch_tokens:
            batches[-1].append(position)
        else:
            batches.append([position])
            longest = lengths[position]
    return batches


def learning_rate(progress: float, options: LanguageTraining) -> float:
    """Return the learning rate at a share of all steps: linear rise, then a half cosine to 0."""
    if progress < options.warm_up:
        return options.learning_rate * progress / options.warm_up
    fall = (progress - options.warm_up) / (1.0 - options.warm_up)
    return options.learning_rate * 0.5 * (1.0 + math.cos(math.pi * fall))


def _step(
    module: nn.Module,
    loss_of: LossOf,
    batch: Batch,
    optimiser: torch.optim.AdamW,
    rate: float,
    options: LanguageTraining,
) -> tuple[float, int]:
    for group in optimiser.param_groups:
        group["lr"] = rate
    loss, n_losses = loss_of(module, batch)
    optimiser.zero_grad(set_to_none=True)
    (loss / max(n_losses, 1)).backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(module.parameters(), options.largest_norm)
    optimiser.step()
    return float(loss.detach()), n_losses


def _optimiser(module: nn.Module, options: LanguageTraining) -> torch.optim.AdamW:
    matrices = [value for value in module.parameters() if value.ndim > 1]
    vectors = [value for value in module.parameters() if value.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": options.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=options.learning_rate,
        betas=(options.beta1, options.beta2),
    )


def _state(module: nn.Module, optimiser: torch.optim.AdamW, steps: int, losses: tuple[float, ...]) -> LanguageState:
    named = dict(module.named_parameters())
    first = {name: optimiser.state[value]["exp_avg"] for name, value in named.items() if value in optimiser.state}
    second = {name: optimiser.state[value]["exp_avg_sq"] for name, value in named.items() if value in optimiser.state}
    return LanguageState(_copied(named), _copied(first), _copied(second), steps, losses)


def _restore(module: nn.Module, optimiser: torch.optim.AdamW, state: LanguageState) -> None:
    with torch.no_grad():
        for name, value in module.named_parameters():
            value.copy_(state.weights[name])
            if name in state.first:
                optimiser.state[value] = {
                    "step": torch.tensor(float(state.steps)),
                    "exp_avg": state.first[name].clone(),
                    "exp_avg_sq": state.second[name].clone(),
                }


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}
