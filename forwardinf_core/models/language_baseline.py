"""The built-in language models: a GPT-2-shaped and a T5-shaped network, and a tokenizer trained on the corpus itself.

Both are ordinary ``transformers`` models, saved as such a folder, so that everything that works on them works on a
user's own. The tokenizer is a byte-level BPE: any text has tokens, and tokens can be mapped back to characters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Family = Literal["causal-lm", "seq2seq-lm"]
PAD, BEGIN, END = "<pad>", "<s>", "</s>"
SPECIAL = (PAD, BEGIN, END)
LONGEST_TEXT = 100_000  # characters given to the tokenizer's trainer at once; a 10 MB document is read in pieces


@dataclass(frozen=True, slots=True)
class LanguageShape:
    """The size of a built-in language model. ``context`` is the longest sequence in tokens."""

    vocabulary: int = 4_096
    width: int = 128
    layers: int = 4
    heads: int = 4
    context: int = 128


def suitable_shape(n_characters: int) -> LanguageShape:
    """Return a size that a corpus of so many characters can train in minutes on two cores."""
    if n_characters < 400_000:
        return LanguageShape(vocabulary=2_048, layers=3)
    return LanguageShape()


def trained_tokenizer(texts: Iterable[str], vocabulary: int, family: Family) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer trained on the texts. The same texts give the same tokenizer.

    Texts of a causal model are framed by a begin and an end token, those of a sequence-to-sequence model are ended.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(_pieces(texts), trainer)
    begin, end = inner.token_to_id(BEGIN), inner.token_to_id(END)
    causal = family == "causal-lm"
    inner.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A {END}" if causal else f"$A {END}",
        special_tokens=[(BEGIN, begin), (END, end)] if causal else [(END, end)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token=PAD, bos_token=BEGIN, eos_token=END, clean_up_tokenization_spaces=False
    )


def language_module(family: Family, shape: LanguageShape, n_tokens: int, *, seed: int) -> nn.Module:
    """Return an untrained network of the family; the same seed gives the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _gpt2(shape, n_tokens) if family == "causal-lm" else _t5(shape, n_tokens)


def _gpt2(shape: LanguageShape, n_tokens: int) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    module: nn.Module = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=n_tokens,
            n_positions=shape.context,
            n_embd=shape.width,
            n_layer=shape.layers,
            n_head=shape.heads,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=SPECIAL.index(BEGIN),
            eos_token_id=SPECIAL.index(END),
            pad_token_id=SPECIAL.index(PAD),
            use_cache=False,
        )
    )
    return module


def _t5(shape: LanguageShape, n_tokens: int) -> nn.Module:
    from transformers import T5Config, T5ForConditionalGeneration

    module: nn.Module = T5ForConditionalGeneration(
        T5Config(
            vocab_size=n_tokens,
            d_model=shape.width,
            d_kv=shape.width // shape.heads,
            d_ff=4 * shape.width,
            num_layers=max(2, shape.layers // 2),
            num_decoder_layers=max(2, shape.layers // 2),
            num_heads=shape.heads,
            dropout_rate=0.0,
            pad_token_id=SPECIAL.index(PAD),
            eos_token_id=SPECIAL.index(END),
            decoder_start_token_id=SPECIAL.index(PAD),
            use_cache=False,
        )
    )
    return module


def _pieces(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        for start in range(0, max(len(text), 1), LONGEST_TEXT):
            yield text[start : start + LONGEST_TEXT]
