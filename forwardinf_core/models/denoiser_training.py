r"""Trains a denoiser on images held as bytes: AdamW, one learning-rate cycle, an average of the weights as the result.

As with the classifier, everything random of an epoch comes from (seed, epoch), so training that was interrupted after
any epoch and resumed ends in the same bytes. One epoch visits every row ``repeats`` times with fresh noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from forwardinf_core.errors import DataError, ModelError
from forwardinf_core.influence.diffusion import Denoising
from forwardinf_core.influence.objective import Batch


@dataclass(frozen=True, slots=True)
class DenoiserTraining:
    """How to train, stored beside the weights it led to."""

    epochs: int = 40
    repeats: int = 1  # visits of every row in an epoch
    batch_size: int = 64
    learning_rate: float = 2e-3  # at the top of the cycle
    warm_up: float = 0.1  # share of the steps that the learning rate rises; then it falls to 0 as a cosine
    weight_decay: float = 1e-2
    averaging: float = 0.995  # of the weights, per step (Polyak); the average is the result
    drop_label: float = 0.1  # share of rows that are trained without their class, for guidance
    seed: int = 0


@dataclass(frozen=True, slots=True)
class DenoiserState:
    """Everything needed to go on after an epoch, and the mean loss of each so far."""

    weights: dict[str, Tensor]
    average: dict[str, Tensor]
    first: dict[str, Tensor]  # moments of AdamW by parameter name
    second: dict[str, Tensor]
    steps: int
    losses: tuple[float, ...]

    @property
    def epoch(self) -> int:
        """Number of finished epochs."""
        return len(self.losses)

    def tensors(self) -> dict[str, Tensor]:
        """Return the state as named tensors, as ``from_tensors`` reads them back."""
        parts = {"weights": self.weights, "average": self.average, "first": self.first, "second": self.second}
        named = {f"{part}/{name}": value for part, values in parts.items() for name, value in values.items()}
        losses = torch.tensor(self.losses, dtype=torch.float64)
        return named | {"steps": torch.tensor(self.steps), "losses": losses}

    @staticmethod
    def from_tensors(tensors: dict[str, Tensor]) -> DenoiserState:
        """Return the state that ``tensors`` wrote."""

        def part(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

        return DenoiserState(
            part("weights/"),
            part("average/"),
            part("first/"),
            part("second/"),
            int(tensors["steps"]),
            tuple(tensors["losses"].tolist()),
        )


def train_denoiser(
    module: nn.Module,
    samples: Tensor,
    labels: Tensor | None,
    objective: Denoising,
    options: DenoiserTraining,
    *,
    null_label: int | None = None,
    rows: Tensor | None = None,
    resume: DenoiserState | None = None,
    on_epoch: Callable[[DenoiserState], None] | None = None,
) -> tuple[float, ...]:
    """Train ``module`` in place, leave it in eval mode with the averaged weights, and return each epoch's mean loss.

    ``samples`` (n, c, h, w) float32 as the denoiser takes them; ``labels`` (n,) or None; ``rows`` restricts training
    to some positions. ``on_epoch`` is called after every epoch with the state to resume from; what it raises ends
    the training. Raises DataError with fewer than two rows, ModelError when the loss is no longer a number.
    """
    chosen = torch.arange(len(samples)) if rows is None else rows
    if len(chosen) < 2:
        raise DataError(f"Training needs at least 2 images, and there are {len(chosen)}.", hint="Add rows.")
    rate, decay = options.learning_rate, options.weight_decay
    optimiser = torch.optim.AdamW(module.parameters(), lr=rate, weight_decay=decay, fused=True)
    state = DenoiserState(_copied(module), _copied(module), {}, {}, 0, ()) if resume is None else resume
    average = {name: value.clone() for name, value in state.average.items()}
    _restore(module, optimiser, state)
    losses, steps = state.losses, state.steps
    while len(losses) < options.epochs:
        generator = _generator(options.seed, len(losses))
        order = torch.cat([chosen[torch.randperm(len(chosen), generator=generator)] for _ in range(options.repeats)])
        batches = torch.tensor_split(order, math.ceil(len(order) / options.batch_size))
        total = 0.0
        module.train()
        for number, positions in enumerate(batches):
            for group in optimiser.param_groups:
                group["lr"] = _rate((len(losses) + (number + 0.5) / len(batches)) / options.epochs, options)
            batch = _drawn(samples, labels, positions, objective, generator, options, null_label)
            loss = objective.losses(objective.outputs(module, batch), batch).mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            steps += 1
            _average(average, module, min(options.averaging, (1 + steps) / (10 + steps)))
            total += float(loss.detach()) * len(positions)
        losses = (*losses, total / len(order))
        if not math.isfinite(losses[-1]):
            raise ModelError(
                f"Training failed in epoch {len(losses)}: the loss is {losses[-1]}.",
                hint=f"A learning rate below {options.learning_rate:g} usually helps.",
            )
        if on_epoch is not None:
            first, second = _moments(module, optimiser)
            copies = {name: value.clone() for name, value in average.items()}
            on_epoch(DenoiserState(_copied(module), copies, first, second, steps, losses))
    module.load_state_dict(average)
    module.eval()
    return losses


def _drawn(
    samples: Tensor,
    labels: Tensor | None,
    positions: Tensor,
    objective: Denoising,
    generator: torch.Generator,
    options: DenoiserTraining,
    null_label: int | None,
) -> Batch:
    """Return a batch with fresh timesteps and noise, and some labels replaced by the one for no class."""
    x = samples[positions].float()
    batch = {
        "x": x,
        "t": torch.randint(len(objective.alphas), (len(x),), generator=generator),
        "noise": torch.randn(x.shape, generator=generator),
    }
    if labels is None:
        return batch
    label = labels[positions]
    dropped = torch.rand(len(x), generator=generator) < options.drop_label
    if null_label is not None:
        label = torch.where(dropped, null_label, label)
    return batch | {"label": label}


def _rate(progress: float, options: DenoiserTraining) -> float:
    if progress < options.warm_up:
        return options.learning_rate * progress / options.warm_up
    fall = (progress - options.warm_up) / (1.0 - options.warm_up)
    return options.learning_rate * 0.5 * (1.0 + math.cos(math.pi * fall))


def _average(average: dict[str, Tensor], module: nn.Module, decay: float) -> None:
    with torch.no_grad():
        for name, value in module.state_dict().items():
            average[name].lerp_(value, 1 - decay)


def _copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def _moments(module: nn.Module, optimiser: torch.optim.AdamW) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    states = {name: optimiser.state[value] for name, value in module.named_parameters() if value in optimiser.state}
    return (
        {name: state["exp_avg"].clone() for name, state in states.items()},
        {name: state["exp_avg_sq"].clone() for name, state in states.items()},
    )


def _restore(module: nn.Module, optimiser: torch.optim.AdamW, state: DenoiserState) -> None:
    module.load_state_dict(state.weights)
    for name, value in module.named_parameters():
        if name in state.first:
            optimiser.state[value] = {
                "step": torch.tensor(float(state.steps)),
                "exp_avg": state.first[name].clone(),
                "exp_avg_sq": state.second[name].clone(),
            }


def _generator(seed: int, epoch: int) -> torch.Generator:
    state = int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> np.uint64(1))
    return torch.Generator().manual_seed(state)
