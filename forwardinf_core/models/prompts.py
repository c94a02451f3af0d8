"""What a text-to-image model is told: prompts, as the states that its frozen text encoder makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from forwardinf_core.errors import ModelError
from forwardinf_core.models.parts import fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ENCODERS = ("CLIPTextModel", "CLIPTextModelWithProjection", "T5EncoderModel")
ENCODE_BATCH = 32


@dataclass(frozen=True)
class PromptEncoder:
    """A tokenizer and a text encoder. Every prompt is padded, or cut, to ``length`` tokens, as in training."""

    tokenizer: PreTrainedTokenizerBase
    encoder: nn.Module
    length: int
    fingerprint: str

    def unread(self, prompt: str) -> int:
        """Return how many tokens of a prompt are cut off, its end mark counted among those that are read."""
        return max(0, len(self.tokenizer(prompt, verbose=False)["input_ids"]) - self.length)

    @torch.inference_mode()
    def states(self, prompts: Sequence[str]) -> Tensor:
        """Return the encoder's last hidden states, (n, length, width) float32."""
        parts = []
        for start in range(0, len(prompts), ENCODE_BATCH):
            tokens = self.tokenizer(
                list(prompts[start : start + ENCODE_BATCH]),
                padding="max_length",
                max_length=self.length,
                truncation=True,
                return_tensors="pt",
            )
            parts.append(self.encoder(tokens["input_ids"])[0].float())
        return torch.cat(parts).clone()


def load_prompts(folder: Path, shown: str, width: int) -> PromptEncoder:
    """Return the text encoder of a pipeline's folder, whose states have ``width`` numbers.

    Raises ModelError, in a sentence, where there is none, or it belongs to another model.
    """
    import transformers

    for name in ("text_encoder", "tokenizer"):
        if not (folder / name).is_dir():
            raise ModelError(
                f"{shown} is conditioned on texts and has no {name}.",
                hint="Save the whole pipeline with save_pretrained, or name its folder as model.path.",
            )
    if not any((folder / "text_encoder").glob("*.safetensors")):
        raise ModelError(
            f"{shown}/text_encoder has no safetensors weights; other files could run code.",
            hint="Load it once where you trust it and save it with save_pretrained(folder, safe_serialization=True).",
        )
    try:
        config = transformers.AutoConfig.from_pretrained(folder / "text_encoder", local_files_only=True)
        kind = next(iter(config.architectures or ()), "")
        if kind not in ENCODERS:
            raise ModelError(
                f"{shown}: a text encoder of kind {kind or 'unknown'} cannot be used.",
                hint=f"Supported: {', '.join(ENCODERS)}.",
            )
        encoder = getattr(transformers, kind).from_pretrained(
            folder / "text_encoder", local_files_only=True, use_safetensors=True
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ModelError(
            f"The text encoder in {shown} cannot be loaded.",
            hint=f"The library says: {str(error).strip().splitlines()[0]}",
        ) from error
    encoder.float().eval().requires_grad_(False)
    found = PromptEncoder(
        tokenizer,
        encoder,
        _length(tokenizer, config),
        fingerprint(dict(encoder.state_dict()), kind, str(sorted(tokenizer.get_vocab().items()))),
    )
    made = found.states([""]).shape[-1]
    if made != width:
        raise ModelError(
            f"{shown}: the text encoder makes {made} numbers a token and the denoiser takes {width}.",
            hint="They belong to different models.",
        )
    return found


def _length(tokenizer: PreTrainedTokenizerBase, config: object) -> int:
    """Return how many tokens a prompt has: as many as the tokenizer says, at most as many as there are positions."""
    positions = getattr(config, "max_position_embeddings", None)
    stated = int(tokenizer.model_max_length)
    if isinstance(positions, int):
        return min(stated, positions)
    return min(stated, 512)
