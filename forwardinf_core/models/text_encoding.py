"""From texts to the tokens a model reads, one and the same for training, scoring and display.

Every text becomes the same number of tokens, cut or padded, with padding masked: what a model says of a text then
depends neither on the texts beside it nor on how many they are. The length is that of the longest text of the project,
rounded up, as far as the model reads.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from forwardinf_core.datasets.rows import TextRows
from forwardinf_core.errors import ModelError
from forwardinf_core.influence.objective import Batch

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

LENGTHS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Tokens a text may be padded to: few values, so that a project's length seldom changes when a row is added."""
LONGEST = LENGTHS[-1]
AT_ONCE = 500  # texts given to the tokenizer together
CHARACTERS_A_TOKEN = 40  # of a text, more than this for each token it can have are not read: a 10 MB text costs nothing
IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"


@dataclass(frozen=True)
class TextEncoding:
    """A tokenizer set to one length. ``entries`` are the batch entries its model takes."""

    tokenizer: Tokenizer = field(repr=False)
    length: int
    pad: int
    entries: tuple[str, ...] = (IDS, MASK)

    def __post_init__(self) -> None:
        # Set once: a tokenizer that is set anew for each call cannot be used from several threads.
        self.tokenizer.enable_truncation(self.length)
        self.tokenizer.enable_padding(length=self.length, pad_id=self.pad, pad_token=PAD_SHOWN)

    def __call__(self, texts: Sequence[str]) -> Batch:
        """Return (n, length) int64 for each entry; ``attention_mask`` is 0 on padding."""
        found: list[Encoding] = []
        for start in range(0, len(texts), AT_ONCE):
            part = [self._beginning(text) for text in texts[start : start + AT_ONCE]]
            found += self.tokenizer.encode_batch(part)
        columns = {
            IDS: [one.ids for one in found],
            MASK: [one.attention_mask for one in found],
            TYPES: [one.type_ids for one in found],
        }
        return {
            name: torch.from_numpy(np.array(columns[name], np.int64).reshape(len(found), -1)) for name in self.entries
        }

    def _beginning(self, text: str) -> str:
        return text[: CHARACTERS_A_TOKEN * self.length]

    def is_cut(self, text: str) -> bool:
        """Say whether the model reads only the beginning of a text."""
        if len(text) > CHARACTERS_A_TOKEN * self.length:
            return True
        return bool(self.tokenizer.encode(text).overflowing)

    def read(self, text: str) -> str:
        """Return the part of a text that the model reads."""
        found = self.tokenizer.encode(self._beginning(text))
        ends = [stop for (_, stop), counted in zip(found.offsets, found.attention_mask, strict=True) if counted]
        return text[: max(ends, default=0)] if self.is_cut(text) else text

    def definition(self) -> str:
        """Return the tokenizer as text, for the fingerprint of its model."""
        return self.tokenizer.to_str()


PAD_SHOWN = "[PAD]"


def read_tokenizer(path: Path) -> Tokenizer:
    """Return the tokenizer in a ``tokenizer.json``. Raises ModelError where there is none."""
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # the library raises bare Exceptions
        raise ModelError(
            f"{path.parent.name} has no readable {path.name}.",
            hint="Expected a fast tokenizer beside the model: tokenizer.save_pretrained(folder).",
        ) from error


def fitting_length(tokenizer: Tokenizer, sets: Iterable[TextRows], most: int) -> int:
    """Return the least of LENGTHS that no text of the project is longer than, at most ``most`` tokens.

    A text has at most as many tokens as bytes, and those a tokenizer adds: texts are looked at by falling size until
    none that is left could be longer than the longest found.
    """
    tokenizer.no_padding()
    tokenizer.enable_truncation(most)
    added = tokenizer.num_special_tokens_to_add(is_pair=False)
    longest = 1
    for rows in sets:
        texts = [rows.text(position)[: CHARACTERS_A_TOKEN * most] for position in range(len(rows))]
        texts.sort(key=lambda text: -len(text.encode("utf-8", "replace")))
        for start in range(0, len(texts), AT_ONCE):
            if longest >= most or len(texts[start].encode("utf-8", "replace")) + added <= longest:
                break
            found = tokenizer.encode_batch(texts[start : start + AT_ONCE])
            longest = max(longest, *(len(one.ids) for one in found))
    place = bisect_left(LENGTHS, longest)
    return min(LENGTHS[place] if place < len(LENGTHS) else longest, most)
