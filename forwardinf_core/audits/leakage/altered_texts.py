"""Copies of the user's own texts, altered as texts are altered on their way from one collection into another.

Their origin is known, so they show how well the signals find a copy and how far a confidence can be trusted. The text
of a copy depends on the row's number and the seed alone.
"""

from __future__ import annotations

import string
from collections.abc import Callable

import numpy as np

Alteration = Callable[[str, np.random.Generator], str]
LETTERS = string.ascii_lowercase
FILLERS = ("the", "of", "well", "then", "just", "that", "really", "some", "please", "now")


def retyped(text: str, generator: np.random.Generator) -> str:
    """Return the text with other capitals, spaces and punctuation."""
    kept = "".join(letter for letter in text if letter.isalnum() or letter.isspace())
    case = (str.lower, str.upper, str.title)[int(generator.integers(3))]
    space = ("  ", " ", "\n")[int(generator.integers(3))]
    return space.join(case(kept).split()) + (" .", "!", "")[int(generator.integers(3))]


def misspelt(text: str, generator: np.random.Generator) -> str:
    """Return the text with a slip of the keyboard in 10 to 30% of its words, at least one."""
    words = text.split()
    for place in _some(len(words), generator, 0.1, 0.3):
        words[place] = _slip(words[place], generator)
    return " ".join(words)


def shortened(text: str, generator: np.random.Generator) -> str:
    """Return the text without 10 to 30% of its words, at least one."""
    words = text.split()
    gone = set(_some(len(words), generator, 0.1, 0.3)) if len(words) > 1 else set()
    return " ".join(word for place, word in enumerate(words) if place not in gone)


def extended(text: str, generator: np.random.Generator) -> str:
    """Return the text with small words put between 10 to 30% of its words, at least one."""
    words = text.split()
    for place in sorted(_some(len(words), generator, 0.1, 0.3), reverse=True):
        words.insert(place, str(generator.choice(FILLERS)))
    return " ".join(words)


def reordered(text: str, generator: np.random.Generator) -> str:
    """Return the text cut in two or three, the parts in another order."""
    words = text.split()
    if len(words) < 2:
        return text
    inner = np.arange(1, len(words))
    cuts = np.sort(generator.choice(inner, min(int(generator.integers(1, 3)), len(inner)), replace=False))
    parts = np.split(np.asarray(words, dtype=object), cuts)
    return " ".join(word for part in reversed(parts) for word in part)


ALTERATIONS: dict[str, Alteration] = {
    "retyped": retyped,
    "misspelt": misspelt,
    "shortened": shortened,
    "extended": extended,
    "reordered": reordered,
}
SEVERAL = "several"  # shortened, extended, misspelt and retyped, half of the time reordered
KINDS = (*ALTERATIONS, SEVERAL)


def altered(text: str, kind: str, generator: np.random.Generator) -> str:
    """Return an altered copy of a text."""
    if kind != SEVERAL:
        return ALTERATIONS[kind](text, generator)
    if generator.random() < 0.5:
        text = reordered(text, generator)
    for step in (shortened, extended, misspelt, retyped):
        text = step(text, generator)
    return text


def _some(count: int, generator: np.random.Generator, least: float, most: float) -> list[int]:
    """Return some of ``count`` places: a share between two, at least one where there is one."""
    wanted = min(count, max(1, round(count * generator.uniform(least, most))))
    return [int(place) for place in generator.choice(count, wanted, replace=False)] if count else []


def _slip(word: str, generator: np.random.Generator) -> str:
    """Return the word with one letter doubled, missing, exchanged with the next, or another."""
    place, kind = int(generator.integers(len(word))), int(generator.integers(4))
    if kind == 0:
        return word[:place] + word[place] + word[place:]
    if kind == 1 and len(word) > 1:
        return word[:place] + word[place + 1 :]
    if kind == 2 and place + 1 < len(word):
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    return word[:place] + LETTERS[int(generator.integers(26))] + word[place + 1 :]
