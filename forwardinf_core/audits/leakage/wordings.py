r"""What two texts have in common whatever a model thinks of them: their normal form, and MinHash of their parts.

MinHash (Broder 1997) in the form of Li and König (2010, b-bit minwise hashing, b = 1): of each of 512 hashes of a set,
the lowest bit of the smallest is kept, as ±1. Two sets agree in a bit with probability (1 + J) / 2, so the product of
two rows at length 1 estimates their Jaccard index J with a deviation of √((1 − J²) / 512) ≤ .045, and is 1 for equal
sets. The parts are four letters in a row, which a slip of the keyboard leaves mostly as they are, and single words,
which a new order leaves as they are.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

HASHES = 512
LETTERS_IN_A_ROW = 4
SEED = 1
LONGEST = 20_000  # characters of a text that parts are made of; the normal form is of all of it


def normal_form(text: str) -> str:
    """Return the text without what is hardly seen: letters alike, no case, no punctuation, single spaces."""
    letters = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(one if one.isalnum() or _is_mark(one) else " " for one in letters).split())


def letter_bits(texts: Sequence[str]) -> NDArray[np.float32]:
    """Return ±1 for each text, (n, 512): MinHash of its runs of four letters; 0 where there is no letter."""
    return _bits([_runs(normal_form(text[:LONGEST])) for text in texts])


def word_bits(texts: Sequence[str]) -> NDArray[np.float32]:
    """Return the same of the words of each text."""
    return _bits([sorted(set(normal_form(text[:LONGEST]).split())) for text in texts])


def is_same_text(first: str, second: str) -> bool:
    """Say whether two texts are the same but for case, punctuation and spaces; without a letter, the very same."""
    one, other = normal_form(first), normal_form(second)
    return one == other if one or other else first == second


def _runs(text: str) -> list[str]:
    if len(text) <= LETTERS_IN_A_ROW:
        return [text] if text else []
    return sorted({text[at : at + LETTERS_IN_A_ROW] for at in range(len(text) - LETTERS_IN_A_ROW + 1)})


def _bits(sets: Sequence[Sequence[str]]) -> NDArray[np.float32]:
    found = np.zeros((len(sets), HASHES), dtype=np.float32)
    for row, parts in enumerate(sets):
        if parts:
            hashed = RMinHash(num_perm=HASHES, seed=SEED)
            hashed.update(list(parts))
            found[row] = np.where(np.asarray(hashed.digest(), dtype=np.uint32) & 1, 1.0, -1.0)
    return found


def _is_mark(letter: str) -> bool:
    """Say whether a character belongs to the letter before it, as vowel signs do in many scripts."""
    return unicodedata.category(letter).startswith("M")
