r"""Trains an image classifier on rows held as bytes: SGD with Nesterov momentum, one learning-rate cycle, augmentation.

Used by ``fit`` and by every retraining of the verification. The result depends on the rows, the options and the
number of threads alone: the order of the rows and the augmentation of an epoch come from (seed, epoch), never from a
running generator, so training that was interrupted after any epoch and resumed ends in the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forwardinf_core.errors import DataError, ModelError
from forwardinf_core.influence.network import slices

EVALUATION_BATCH = 200  # the fastest batch of a forward pass on two cores
HELD_OUT_STREAM = 2**31  # the "epoch" whose random stream draws the held-out rows


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """How to train, stored beside the weights it led to. Shifts are in pixels, mirrored at the border.

    ``held_out`` is the share of the rows kept out to watch; with ``patience`` > 0 training stops after that many
    epochs without a lower held-out loss. Whenever rows are held out, the weights of the best epoch are the result.
    """

    epochs: int = 16
    batch_size: int = 64
    learning_rate: float = 0.1  # at the top of the cycle
    warm_up: float = 0.25  # share of the steps that the learning rate rises; then it falls to 0 as a cosine
    momentum: float = 0.9
    weight_decay: float = 5e-4  # of weight matrices and kernels; biases and norms are left alone
    label_smoothing: float = 0.0
    shift: int = 0
    flip: bool = False
    held_out: float = 0.0
    patience: int = 0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """What one epoch did. Held-out figures are NaN where no rows are held out."""

    loss: float  # mean over the augmented training rows, in train mode
    accuracy: float
    held_out_loss: float
    held_out_accuracy: float


@dataclass(frozen=True, slots=True)
class TrainingState:
    """Everything needed to go on after an epoch. Its tensors are copies and stay as they are."""

    weights: dict[str, Tensor]  # the module's state dict
    momentum: dict[str, Tensor]  # by parameter name
    best: dict[str, Tensor]  # state dict of the best held-out epoch; empty where no rows are held out
    history: tuple[EpochRecord, ...]

    @property
    def epoch(self) -> int:
        """Number of finished epochs."""
        return len(self.history)

    def tensors(self) -> dict[str, Tensor]:
        """Return the state as named tensors, as ``from_tensors`` reads them back."""
        parts = {"weights": self.weights, "momentum": self.momentum, "best": self.best}
        named = {f"{part}/{name}": value for part, values in parts.items() for name, value in values.items()}
        rows = [[r.loss, r.accuracy, r.held_out_loss, r.held_out_accuracy] for r in self.history]
        return named | {"history": torch.tensor(rows, dtype=torch.float64).reshape(-1, 4)}

    @staticmethod
    def from_tensors(tensors: dict[str, Tensor]) -> TrainingState:
        """Return the state that ``tensors`` wrote."""

        def part(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

        history = tuple(EpochRecord(*row) for row in tensors["history"].tolist())
        return TrainingState(part("weights/"), part("momentum/"), part("best/"), history)


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """The trained weights (a state dict, contiguous) and what every epoch did."""

    weights: dict[str, Tensor]
    history: tuple[EpochRecord, ...]


def suitable_options(*, n_rows: int, channels: int, size: int, seed: int = 0) -> TrainingOptions:
    """Return options that suit a set of images: mirrored copies for colour only (a mirrored digit is another digit)."""
    epochs = 16 if n_rows >= 5_000 else 24
    return TrainingOptions(epochs=epochs, shift=max(1, min(4, size // 8)), flip=channels == 3, seed=seed)


def train(
    module: nn.Module,
    pixels: Tensor,
    labels: Tensor,
    options: TrainingOptions,
    *,
    normalise: Callable[[Tensor], Tensor],
    rows: Tensor | None = None,
    resume: TrainingState | None = None,
    on_epoch: Callable[[TrainingState], None] | None = None,
) -> TrainingResult:
    """Train ``module`` in place and leave it in eval mode with the resulting weights.

    ``pixels`` (n, channels, height, width) uint8, possibly memory-mapped; ``labels`` (n,) int64, rows with −1 are left
    out; ``rows`` restricts training to some positions. ``normalise`` maps bytes to the module's input. ``on_epoch``
    is called after every epoch with the state to resume from; what it raises ends the training.
    Raises DataError with fewer than two labelled rows and ModelError when the loss is no longer a number.
    """
    chosen = torch.arange(len(labels)) if rows is None else rows
    training, watched = _divided(chosen[labels[chosen] >= 0], options)
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
    optimiser = _optimiser(module, options)
    history: tuple[EpochRecord, ...] = ()
    best: dict[str, Tensor] = {}
    if resume is not None:
        history, best = resume.history, resume.best
        _restore(module, optimiser, resume)
    while len(history) < options.epochs and not _out_of_patience(history, options):
        loss, accuracy = _run_epoch(module, optimiser, pixels, labels, training, len(history), options, normalise)
        watched_loss, watched_accuracy = _evaluate(module, pixels, labels, watched, normalise)
        _require_number(loss, len(history) + 1, options)
        if len(watched) and watched_loss < min((r.held_out_loss for r in history), default=math.inf):
            best = _copied(module.state_dict())
        history = (*history, EpochRecord(loss, accuracy, watched_loss, watched_accuracy))
        if on_epoch is not None:
            on_epoch(TrainingState(_copied(module.state_dict()), _momentum(module, optimiser), best, history))
    if best:
        module.load_state_dict(best)
    module.eval()
    return TrainingResult(_copied(module.state_dict()), history)


def evaluate(
    module: nn.Module, pixels: Tensor, labels: Tensor, *, normalise: Callable[[Tensor], Tensor]
) -> tuple[float, float]:
    """Return mean loss and accuracy of ``module`` in eval mode over the labelled rows; NaN where there are none."""
    return _evaluate(module, pixels, labels, torch.nonzero(labels >= 0).flatten(), normalise)


def augmented(pixels: Tensor, generator: torch.Generator, *, shift: int, flip: bool) -> Tensor:
    """Return a copy of the images (n, c, h, w), each shifted by up to ``shift`` pixels and mirrored half of the time.

    What a shift uncovers is filled by reflection at the border. One gather; the copy is channels-last.
    """
    n, _, height, width = pixels.shape
    by = torch.randint(-shift, shift + 1, (2, n, 1), generator=generator)
    flipped = torch.rand((n, 1), generator=generator) < 0.5
    y = _reflected(torch.arange(height) + by[0], height)  # (n, h)
    x = _reflected(torch.arange(width) + by[1], width)
    if flip:
        x = torch.where(flipped, width - 1 - x, x)
    batch = torch.arange(n).reshape(n, 1, 1)
    return pixels.permute(0, 2, 3, 1)[batch, y.unsqueeze(2), x.unsqueeze(1)].permute(0, 3, 1, 2)


def _reflected(index: Tensor, size: int) -> Tensor:
    """Fold indices that leave 0 … size − 1 back, without repeating the border."""
    return (size - 1 - (size - 1 - index.abs()).abs()).clamp_(0, size - 1)


def _divided(rows: Tensor, options: TrainingOptions) -> tuple[Tensor, Tensor]:
    """Return the rows to train on and the rows held out, both in ascending order."""
    n_held_out = round(options.held_out * len(rows))
    if len(rows) - n_held_out < 2:
        raise DataError(
            f"Training needs at least 2 labelled rows, and there are {len(rows) - n_held_out}.",
            hint="Add rows, or check which column holds the labels.",
        )
    if n_held_out == 0:
        return rows, rows[:0]
    order = rows[torch.randperm(len(rows), generator=_generator(options.seed, HELD_OUT_STREAM))]
    return order[n_held_out:].sort().values, order[:n_held_out].sort().values


def _generator(seed: int, epoch: int) -> torch.Generator:
    state = int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> np.uint64(1))
    return torch.Generator().manual_seed(state)


def _optimiser(module: nn.Module, options: TrainingOptions) -> torch.optim.SGD:
    matrices = [p for p in module.parameters() if p.ndim > 1]
    vectors = [p for p in module.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": options.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    return torch.optim.SGD(groups, lr=options.learning_rate, momentum=options.momentum, nesterov=options.momentum > 0)


def _learning_rate(progress: float, options: TrainingOptions) -> float:
    """Return the learning rate at a share of all steps: linear rise, then a half cosine to 0."""
    if progress < options.warm_up:
        return options.learning_rate * progress / options.warm_up
    fall = (progress - options.warm_up) / (1.0 - options.warm_up)
    return options.learning_rate * 0.5 * (1.0 + math.cos(math.pi * fall))


def _run_epoch(
    module: nn.Module,
    optimiser: torch.optim.SGD,
    pixels: Tensor,
    labels: Tensor,
    rows: Tensor,
    epoch: int,
    options: TrainingOptions,
    normalise: Callable[[Tensor], Tensor],
) -> tuple[float, float]:
    """Take one pass over the rows in the order of (seed, epoch); return mean loss and accuracy."""
    generator = _generator(options.seed, epoch)
    order = rows[torch.randperm(len(rows), generator=generator)]
    # Nearly equal batches: no batch is so small that its BatchNorm statistics are noise.
    batches = torch.tensor_split(order, math.ceil(len(order) / options.batch_size))
    losses, right = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.int64)
    module.train()
    for step, batch in enumerate(batches):
        rate = _learning_rate((epoch + (step + 0.5) / len(batches)) / options.epochs, options)
        for group in optimiser.param_groups:
            group["lr"] = rate
        images = augmented(pixels[batch], generator, shift=options.shift, flip=options.flip)
        logits = module(normalise(images).contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits, labels[batch], label_smoothing=options.label_smoothing)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses += loss.detach().double() * len(batch)
        right += (logits.detach().argmax(1) == labels[batch]).sum()
    return float(losses) / len(rows), int(right) / len(rows)


@torch.inference_mode()
def _evaluate(
    module: nn.Module, pixels: Tensor, labels: Tensor, rows: Tensor, normalise: Callable[[Tensor], Tensor]
) -> tuple[float, float]:
    if len(rows) == 0:
        return math.nan, math.nan
    module.eval()
    losses, right = 0.0, 0
    for start, stop in slices(len(rows), EVALUATION_BATCH):
        batch = rows[start:stop]
        logits = module(normalise(pixels[batch]).contiguous(memory_format=torch.channels_last))
        losses += float(F.cross_entropy(logits, labels[batch], reduction="sum"))
        right += int((logits.argmax(1) == labels[batch]).sum())
    return losses / len(rows), right / len(rows)


def _require_number(loss: float, epoch: int, options: TrainingOptions) -> None:
    if not math.isfinite(loss):
        raise ModelError(
            f"Training failed in epoch {epoch}: the loss is {loss}.",
            hint=f"A learning rate below {options.learning_rate:g} usually helps.",
        )


def _out_of_patience(history: tuple[EpochRecord, ...], options: TrainingOptions) -> bool:
    watched = [record.held_out_loss for record in history]
    if not watched or options.patience == 0 or options.held_out == 0:
        return False
    return len(watched) - 1 - int(np.argmin(watched)) >= options.patience


def _copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}


def _momentum(module: nn.Module, optimiser: torch.optim.SGD) -> dict[str, Tensor]:
    buffers = {name: optimiser.state[value].get("momentum_buffer") for name, value in module.named_parameters()}
    return _copied({name: buffer for name, buffer in buffers.items() if buffer is not None})


def _restore(module: nn.Module, optimiser: torch.optim.SGD, state: TrainingState) -> None:
    module.load_state_dict(state.weights)
    for name, value in module.named_parameters():
        if name in state.momentum:
            buffer = torch.empty_like(value).copy_(state.momentum[name])  # keeps the layout of the parameter
            optimiser.state[value]["momentum_buffer"] = buffer
