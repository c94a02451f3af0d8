"""What a text-to-image model is told: prompts, as its frozen text encoders read them, and numbers beside them.

Entries of a batch are named as in ``influence.diffusion``; what depends on the prompt is kept apart from what does not,
so that each caption is read once and the rest is not kept at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from forwardinf_core.influence.objective import Batch

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ENCODE_BATCH = 32
Reading = Literal["last", "penultimate", "masked"]


@dataclass(frozen=True)
class TextEncoder:
    """A tokenizer and a text encoder. Every prompt is padded, or cut, to ``length`` tokens, as in training.

    ``reading`` says what the denoiser is given: ``last`` and ``penultimate`` name the layer whose states it attends to,
    padding included; ``masked`` is the last layer with a mask of what is no padding, of prompts in lower case.
    """

    tokenizer: PreTrainedTokenizerBase
    encoder: nn.Module
    length: int
    fingerprint: str
    reading: Reading = "last"

    def unread(self, prompt: str) -> int:
        """Return how many tokens of a prompt are cut off, its end mark counted among those that are read."""
        return max(0, len(self.tokenizer(self._said(prompt), verbose=False)["input_ids"]) - self.length)

    @torch.inference_mode()
    def read(self, prompts: Sequence[str]) -> Batch:
        """Return ``text`` (n, length, width) float32.

        Where it is masked also ``mask`` (n, length), 1 for what counts and 0 for padding; where the encoder ends in a
        projection also ``pooled`` (n, projected).
        """
        parts = [self._read(prompts[start : start + ENCODE_BATCH]) for start in range(0, len(prompts), ENCODE_BATCH)]
        return {name: torch.cat([part[name] for part in parts]).clone() for name in parts[0]}

    def _read(self, prompts: Sequence[str]) -> Batch:
        tokens = self.tokenizer(
            [self._said(prompt) for prompt in prompts],
            padding="max_length",
            max_length=self.length,
            truncation=True,
            return_tensors="pt",
        )
        if self.reading == "masked":
            mask = tokens["attention_mask"]
            states = self.encoder(tokens["input_ids"], attention_mask=mask).last_hidden_state
            return {"text": states.float(), "mask": mask.float()}
        result = self.encoder(tokens["input_ids"], output_hidden_states=self.reading == "penultimate")
        states = result.hidden_states[-2] if self.reading == "penultimate" else result.last_hidden_state
        pooled: Tensor | None = getattr(result, "text_embeds", None)
        return {"text": states.float(), **({} if pooled is None else {"pooled": pooled.float()})}

    def _said(self, prompt: str) -> str:
        return prompt.lower().strip() if self.reading == "masked" else prompt


@dataclass(frozen=True)
class PromptEncoder:
    """All that a denoiser is told: by one text encoder or two side by side, and by numbers beside any prompt.

    ``beside`` are those numbers by the name of their entry, such as the size of the image. ``zeros_for_nothing``:
    guidance goes away from zeros instead of from the empty prompt.
    """

    encoders: tuple[TextEncoder, ...]
    beside: tuple[tuple[str, tuple[float, ...]], ...] = ()
    zeros_for_nothing: bool = False

    @property
    def length(self) -> int:
        """Return how many tokens of a prompt are read."""
        return self.encoders[0].length

    @property
    def fingerprint(self) -> str:
        """Return a SHA-256 over everything that the entries depend on."""
        first = self.encoders[0]
        if len(self.encoders) == 1 and first.reading == "last" and not self.beside:
            return first.fingerprint
        each = [f"{one.fingerprint} {one.reading} {one.length}" for one in self.encoders]
        return sha256(repr((each, self.beside, self.zeros_for_nothing)).encode()).hexdigest()

    def unread(self, prompt: str) -> int:
        """Return how many tokens of a prompt are cut off."""
        return max(encoder.unread(prompt) for encoder in self.encoders)

    def read(self, prompts: Sequence[str]) -> Batch:
        """Return what depends on the prompts: ``text`` (n, length, width) float32, and ``mask`` or ``pooled``.

        The states of two encoders stand side by side along the width; ``pooled`` is the second one's.
        """
        parts = [encoder.read(prompts) for encoder in self.encoders]
        rest = {name: value for part in parts for name, value in part.items()}
        return {**rest, "text": torch.cat([part["text"] for part in parts], -1)}

    def numbers(self) -> Batch:
        """Return what is said beside any prompt, each (1, k) float32."""
        return {name: torch.tensor([values], dtype=torch.float32) for name, values in self.beside}

    def entries(self, prompts: Sequence[str]) -> Batch:
        """Return all entries of a batch, one for each prompt."""
        return {**self.read(prompts), **{name: value.repeat(len(prompts), 1) for name, value in self.numbers().items()}}

    def nothing(self) -> Batch:
        """Return the entries, of one row, that guidance goes away from."""
        empty = self.read([""])
        if self.zeros_for_nothing:
            empty = {name: torch.zeros_like(value) for name, value in empty.items()}
        return {**empty, **self.numbers()}
