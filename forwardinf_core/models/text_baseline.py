r"""The built-in text classifier that ``fit`` trains when the user has no model, with a tokenizer made from the corpus.

Word embeddings, one residual layer over each word and its two neighbours, mean and maximum over the words, one residual
layer on that (the tail, with the head) and one linear layer. Words are lower-cased, without accents; those that occur
once are unknown. The trunk keeps 2 × width numbers a text, whatever its length.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAD, UNKNOWN, BEGIN = "[PAD]", "[UNK]", "[CLS]"
SPECIAL = (PAD, UNKNOWN, BEGIN)
PAD_ID, UNKNOWN_ID, BEGIN_ID = range(3)
LOWEST = -1e4  # below any activation: what padding adds to a maximum
LONGEST_TEXT = 100_000  # characters given to the tokenizer's trainer at once


@dataclass(frozen=True, slots=True)
class TextBaselineConfig:
    """Shape of the network, saved beside its weights as ``config.json``."""

    n_classes: int
    n_tokens: int  # of the vocabulary
    length: int  # tokens of a text
    width: int = 96


class WordBlock(nn.Module):
    """A residual layer over each word and its two neighbours."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.into = nn.Linear(3 * width, width)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return (n, t, width) of (n, t, width), ``mask`` (n, t, 1) being 0 on padding."""
        y = self.norm(x) * mask
        before, after = F.pad(y, (0, 0, 1, 0))[:, :-1], F.pad(y, (0, 0, 0, 1))[:, 1:]
        y = self.out(self.dropout(F.gelu(self.into(torch.cat([before, y, after], 2)))))
        total: Tensor = x + y
        return total


class TextBlock(nn.Module):
    """A residual layer on what is known of the whole text."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.into = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, width) of (n, width)."""
        y: Tensor = self.out(self.dropout(F.gelu(self.into(self.norm(x)))))
        return x + y


class TextBaseline(nn.Module):
    """Logits (n, n_classes) of tokens (n, t) with their mask."""

    HEAD = "head"
    TAIL = ("block2", "head")

    def __init__(self, config: TextBaselineConfig, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.embedding = nn.Embedding(config.n_tokens, width, padding_idx=PAD_ID)
        nn.init.normal_(self.embedding.weight, std=0.1)
        self.block1 = WordBlock(width, dropout)
        self.block2 = TextBlock(2 * width, dropout)
        self.head = nn.Linear(2 * width, config.n_classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        mask = attention_mask.unsqueeze(2).to(self.head.weight.dtype)  # (n, t, 1)
        x = self.block1(self.dropout(self.embedding(input_ids)) * mask, mask)
        mean = (x * mask).sum(1) / mask.sum(1)
        highest = (x * mask + (1 - mask) * LOWEST).amax(1)
        x = self.block2(torch.cat([mean, highest], 1))  # (n, 2 · width)
        logits: Tensor = self.head(self.dropout(x))
        return logits


def trained_tokenizer(texts: Iterable[str], most_tokens: int) -> Tokenizer:
    """Return a word tokenizer made from the texts: the same texts give the same one. Every text begins with [CLS]."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordLevelTrainer(
        vocab_size=most_tokens, min_frequency=2, special_tokens=list(SPECIAL), show_progress=False
    )
    tokenizer.train_from_iterator(_parts(texts), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", special_tokens=[(BEGIN, tokenizer.token_to_id(BEGIN))]
    )
    return tokenizer


def _parts(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        for start in range(0, max(len(text), 1), LONGEST_TEXT):
            yield text[start : start + LONGEST_TEXT]
