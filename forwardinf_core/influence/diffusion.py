r"""What a loss is for a diffusion model: the squared error of a denoiser at one noise level, one draw at a time.

A row of the engine is one *draw* of one sample: its clean image x₀, a timestep t and a noise ε. The noised image is
x_t = √ᾱ_t x₀ + √(1−ᾱ_t) ε (Ho, Jain, Abbeel 2020) and the loss of a draw is the mean squared error of the denoiser's
output against what it is trained to predict. A sample's score is the mean over its draws of their loss changes: pairing
happens per draw, before any averaging.

Timestep, noise, which of several captions is told, and whether the sample is mirrored, are functions of (sample id,
draw number, seed) and of nothing else, so the unchanged and the moved model see the same ones whatever the batch, the
subset or the machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

import torch
from torch import Tensor

from forwardinf_core.errors import AuditError
from forwardinf_core.influence.objective import Batch

Prediction = Literal["epsilon", "v_prediction", "sample"]
ENTRIES = {"label": "class_labels", "text": "encoder_hidden_states", "mask": "encoder_attention_mask"}
"""Entries of a batch that condition the denoiser and the names by which a denoiser of ``diffusers`` takes them: class
labels (n,), or states of text encoders (n, tokens, channels) with a mask (n, tokens) of those that count."""
ADDED = {"pooled": "text_embeds", "sizes": "time_ids", "resolution": "resolution", "aspect": "aspect_ratio"}
"""The same for what it takes in one more dictionary: a text as a whole (n, channels), and sizes (n, 6), (n, 2), (n, 1).
"""


def conditioning(entries: Mapping[str, Tensor]) -> dict[str, Tensor | dict[str, Tensor]]:
    """Return the arguments by which a denoiser of ``diffusers`` takes what conditions it; other entries are left."""
    found: dict[str, Tensor | dict[str, Tensor]] = {
        given: entries[name] for name, given in ENTRIES.items() if name in entries
    }
    added = {given: entries[name] for name, given in ADDED.items() if name in entries}
    return {**found, "added_cond_kwargs": added} if added else found


@dataclass(frozen=True)
class Draws:
    """How a sample is looked at: ``count`` noise levels, one in each of ``count`` equal parts of the schedule."""

    count: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1:
            raise AuditError(f"A sample cannot be looked at {self.count} times.", hint="Ask for one draw or more.")

    def of(self, sample_id: str, shape: Sequence[int], n_timesteps: int) -> tuple[Tensor, Tensor]:
        """Return timesteps (count,) int64 and noise (count, *shape) float32 of one sample.

        Draw d lies in the d-th of ``count`` equal parts of the schedule, at a place of its own. Any prefix of a longer
        list differs: the parts depend on the count, which therefore belongs to the options of a run.
        """
        timesteps, noise = [], []
        for draw in range(self.count):
            generator = torch.Generator().manual_seed(_seed_of(sample_id, draw, self.seed))
            place = float(torch.rand((), generator=generator))
            timesteps.append(min(int((draw + place) / self.count * n_timesteps), n_timesteps - 1))
            noise.append(torch.randn(*shape, generator=generator))
        return torch.tensor(timesteps, dtype=torch.int64), torch.stack(noise)

    def choices(self, sample_id: str) -> tuple[Tensor, Tensor]:
        """Return two uniform numbers from 0 to 1 for each draw of a sample, (count,) twice: caption, and mirroring.

        They come from seeds of their own: a sample with one caption, never mirrored, is drawn as without them.
        """
        seeds = [_seed_of(sample_id, draw, self.seed, use="choices ") for draw in range(self.count)]
        numbers = torch.stack([torch.rand(2, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
        return numbers[:, 0], numbers[:, 1]


def _seed_of(sample_id: str, draw: int, seed: int, use: str = "") -> int:
    """Return a seed that a change of any of the four makes unrelated; the same on every machine."""
    digest = hashlib.sha256(f"{use}{seed} {draw} {sample_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class Denoising:
    r"""Mean squared error of a denoiser.

    A batch holds ``x`` (n, c, h, w) clean images or latents, ``t`` (n,) timesteps, ``noise`` like ``x``, and where the
    model is conditioned the entries that ``conditioning`` reads. Outputs are predictions like ``x``.
    ``alphas`` (T,) are the schedule's ᾱ_t.
    """

    task = "diffusion"

    def __init__(self, alphas: Tensor, prediction: Prediction = "epsilon") -> None:
        self.alphas = alphas.detach().double()
        self.prediction: Prediction = prediction

    def noised(self, batch: Batch) -> Tensor:
        """Return x_t, like ``x``."""
        signal, spread = self._levels(batch)
        return signal * batch["x"] + spread * batch["noise"]

    def target(self, batch: Batch) -> Tensor:
        """Return what the denoiser is trained to predict, like ``x``."""
        if self.prediction == "epsilon":
            return batch["noise"]
        if self.prediction == "sample":
            return batch["x"]
        signal, spread = self._levels(batch)
        return signal * batch["noise"] - spread * batch["x"]

    def outputs(self, call: Callable[..., object], batch: Batch) -> Tensor:
        result = call(self.noised(batch), timestep=batch["t"], **conditioning(batch))
        found = getattr(result, "sample", result)
        if isinstance(found, tuple):
            found = found[0]
        assert isinstance(found, Tensor)
        channels = batch["x"].shape[1]
        if found.shape[1] == 2 * channels:  # a learned variance beside it (DiT, PixArt): no part of this loss
            found = found[:, :channels]
        return found if found.dtype == torch.float64 else found.float()

    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        return (outputs - self.target(batch)).square().flatten(1).mean(1)

    def unsaturated_losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the losses themselves: a squared error has a gradient of useful size wherever it is not 0."""
        return self.losses(outputs, batch)

    def loss_changes(self, outputs: Tensor, change: Tensor, batch: Batch) -> Tensor:
        r"""Return the mean of Δ (2 (o − target) + Δ) over the pixels: exact, without subtracting two losses."""
        return (change * (2 * (outputs - self.target(batch)) + change)).flatten(1).mean(1)

    def output_gradients(self, outputs: Tensor, batch: Batch) -> Tensor:
        return 2 * (outputs - self.target(batch)) / outputs[0].numel()

    def _levels(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return √ᾱ_t and √(1−ᾱ_t), each (n, 1, …)."""
        alphas = self.alphas.to(batch["x"].device)[batch["t"]].reshape(-1, *[1] * (batch["x"].ndim - 1))
        return alphas.sqrt().to(batch["x"].dtype), (1 - alphas).sqrt().to(batch["x"].dtype)


class Entries(Protocol):
    """One entry a sample: a tensor, or what can be read like one."""

    def __getitem__(self, which: Tensor, /) -> Tensor:
        """Return the entries of some samples, by position."""
        ...


@dataclass(frozen=True)
class Shared:
    """Entries that samples share: ``values`` (m, …), possibly memory-mapped, and which of them each has, (n, k).

    A sample has ``counts`` (n,) of them, the first of its k; read by position alone, it gives the first.
    """

    values: Tensor
    which: Tensor
    counts: Tensor

    def __getitem__(self, which: Tensor, /) -> Tensor:
        return self.values[self.which[which, 0]].float()

    def chosen(self, which: Tensor, numbers: Tensor) -> Tensor:
        """Return one entry of each sample, by numbers from 0 to 1 (n,): its counts share that range equally."""
        counts = self.counts[which]
        place = torch.minimum((numbers * counts).long(), counts - 1)
        return self.values[self.which[which, place]].float()

    @classmethod
    def by_all(cls, values: Tensor, n: int) -> Shared:
        """Return the one entry (1, …) that all of n samples have."""
        return cls(values, torch.zeros(n, 1, dtype=torch.int64), torch.ones(n, dtype=torch.int64))


@dataclass(frozen=True)
class DrawRows:
    """Draws of samples as rows of the engine: row i · count + d is draw d of sample i.

    ``samples`` (n, c, h, w) may be memory-mapped; ``conditions`` hold one entry a sample, or several to choose from.
    Where ``mirrored`` are the same samples mirrored, half of the draws are of these.
    """

    ids: Sequence[str]
    samples: Tensor
    conditions: Mapping[str, Entries]
    draws: Draws
    n_timesteps: int
    mirrored: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids) * self.draws.count

    def batch(self, start: int, stop: int) -> Batch:
        """Return draws start … stop − 1."""
        first, last = start // self.draws.count, (stop - 1) // self.draws.count + 1
        shape = self.samples.shape[1:]
        drawn = [self.draws.of(self.ids[sample], shape, self.n_timesteps) for sample in range(first, last)]
        offset = first * self.draws.count
        kept = slice(start - offset, stop - offset)
        which = torch.arange(start, stop) // self.draws.count
        choices = [self.draws.choices(self.ids[sample]) for sample in range(first, last)] if self._chooses else []
        told, turned = (torch.cat(numbers)[kept] for numbers in zip(*choices, strict=True)) if choices else (None, None)
        x = self.samples[which].float()
        if self.mirrored is not None and turned is not None:
            x = torch.where((turned < 0.5).reshape(-1, 1, 1, 1), self.mirrored[which].float(), x)
        batch = {
            "x": x,
            "t": torch.cat([timesteps for timesteps, _ in drawn])[kept],
            "noise": torch.cat([noise for _, noise in drawn])[kept],
        }
        return batch | {
            name: values[which] if told is None or not isinstance(values, Shared) else values.chosen(which, told)
            for name, values in self.conditions.items()
        }

    @cached_property
    def _chooses(self) -> bool:
        several = (bool((one.counts > 1).any()) for one in self.conditions.values() if isinstance(one, Shared))
        return self.mirrored is not None or any(several)


def by_sample(values: Tensor, count: int) -> Tensor:
    """Return values of draws (n · count, …) by sample, (n, count, …)."""
    return values.reshape(-1, count, *values.shape[1:])


def normalised_skew(before: Tensor, change: Tensor) -> Tensor:
    r"""Return (u − o) / (u + o + 10⁻³) per draw, with o the loss before and u after, as in MUCS."""
    after = before + change
    return change / (after + before + SKEW_FLOOR)


SKEW_FLOOR = 1e-3  # keeps draws of nearly clean images, whose losses are near 0, from deciding the ranking
