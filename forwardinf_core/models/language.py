"""A user's language model as the audits see it: module, tokenizer, objective, and how long a sequence may be."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import torch
from torch import nn

from forwardinf_core.errors import ModelError
from forwardinf_core.influence.language import LanguageModelling, LanguageTask, Reduction
from forwardinf_core.models.parts import fingerprint
from forwardinf_core.models.source import ModelSource
from forwardinf_core.models.weights import load_into, load_weights, refuse_not_finite

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

LONGEST_CONTEXT = 1_024  # tokens of one pass; longer documents are read in pieces, so this bounds memory alone
TOKENIZER_FILE = "tokenizer.json"


@dataclass(frozen=True)
class LanguageModel:
    """A trained language model. ``module`` is in eval mode and is never changed.

    ``context`` is the longest sequence in tokens. ``pad`` fills batches and is masked wherever it stands, so a
    tokenizer without a padding token needs none. ``fingerprint`` is a SHA-256 over weights, configuration, tokenizer.
    """

    module: nn.Module
    tokenizer: PreTrainedTokenizerFast
    objective: LanguageModelling
    context: int
    pad: int
    end: int | None  # the token that ends a text, where the tokenizer has one
    fingerprint: str
    origin: str

    @property
    def task(self) -> LanguageTask:
        """Say whether the model continues a text or turns one text into another."""
        return cast("LanguageTask", self.objective.task)


def load_language_model(
    source: ModelSource, root: Path, task: LanguageTask, *, reduction: Reduction = "sum"
) -> LanguageModel:
    """Return the model of a ``transformers`` folder, or the built-in one that ``fit`` writes as such a folder.

    Raises ModelError with what is wrong: no folder, pickled weights, another kind of model, a slow tokenizer.
    """
    folder = root / source.path
    if source.kind not in ("baseline", "transformers"):
        raise ModelError(
            f"A language model cannot be of kind {source.kind}.", hint="Set kind: transformers, or baseline and fit it."
        )
    if not (folder / "config.json").is_file():
        hint = (
            "Train it with: python -m forwardinf_core fit PROJECT"
            if source.kind == "baseline"
            else "Expected a folder written by save_pretrained(), with its tokenizer."
        )
        raise ModelError(f"There is no language model in {source.path}.", hint=hint)
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{source.path} has no weights in a format that cannot hold code.",
            hint="Expected model.safetensors; save a model you trust again with save_pretrained(folder).",
        )
    module = _module(folder, source, task)
    if source.weights is not None:
        load_into(module, load_weights(root / source.weights), source.weights)
    module = module.float().eval().requires_grad_(False)
    state = dict[str, torch.Tensor](module.named_parameters())
    refuse_not_finite(state, source.path)
    tokenizer = load_tokenizer(folder, source.path)
    config = (folder / "config.json").read_text(encoding="utf-8")
    words = (folder / TOKENIZER_FILE).read_text(encoding="utf-8")
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    return LanguageModel(
        module=module,
        tokenizer=tokenizer,
        objective=LanguageModelling(task, reduction),
        context=_context(module, task),
        pad=int(pad),
        end=tokenizer.eos_token_id,
        fingerprint=fingerprint(state, source.kind, task, config, words),
        origin=source.weights or source.path,
    )


def load_tokenizer(folder: Path, name: str) -> PreTrainedTokenizerFast:
    """Return the tokenizer of a folder. Raises ModelError where there is none that maps tokens to characters."""
    from transformers import AutoTokenizer

    if not (folder / TOKENIZER_FILE).is_file():
        raise ModelError(
            f"{name} has no {TOKENIZER_FILE}.",
            hint="Save the fast tokenizer beside the model: AutoTokenizer.from_pretrained(…).save_pretrained(folder).",
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ModelError(f"The tokenizer in {name} cannot be loaded.", hint=_first_line(error)) from error
    if not tokenizer.is_fast:
        raise ModelError(
            f"The tokenizer in {name} cannot say which characters a token stands for.",
            hint="Save it as a fast tokenizer: AutoTokenizer.from_pretrained(…, use_fast=True).",
        )
    return cast("PreTrainedTokenizerFast", tokenizer)


def _module(folder: Path, source: ModelSource, task: LanguageTask) -> nn.Module:
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    wanted = AutoModelForCausalLM if task == "causal-lm" else AutoModelForSeq2SeqLM
    try:
        module, info = wanted.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError, json.JSONDecodeError) as error:
        kind = "causal" if task == "causal-lm" else "sequence-to-sequence"
        raise ModelError(f"{source.path} is no {kind} language model.", hint=_first_line(error)) from error
    absent = sorted(info["missing_keys"])
    if absent:
        raise ModelError(f"{source.path} lacks weights: {', '.join(absent[:3])}.", hint="Save the whole model again.")
    return cast("nn.Module", module)


def _context(module: nn.Module, task: Literal["causal-lm", "seq2seq-lm"]) -> int:
    config = getattr(module, "config", None)
    for name in ("n_positions", "max_position_embeddings", "n_ctx"):
        stated = getattr(config, name, None)
        if isinstance(stated, int) and stated > 1 and not (task == "seq2seq-lm" and name == "n_positions"):
            return min(stated, LONGEST_CONTEXT)
    return LONGEST_CONTEXT // 2  # relative positions have no end


def _first_line(error: Exception) -> str:
    return f"The library says: {(str(error).strip().splitlines() or [type(error).__name__])[0][:200]}"
