"""What differs between two texts, word by word, for the eye: which words both have, and which only one of them has."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher

from forwardinf_core.audits.leakage.wordings import normal_form

MOST_WORDS = 1_500  # of each text; comparing more would take longer than looking
PIECES = re.compile(r"\s*\S+")


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of a text, spaces and all. ``is_own``: the other text does not have it at this place."""

    text: str
    is_own: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """Two texts cut at the same places. ``shared`` and the lengths count words; ``is_cut``: only their beginnings."""

    left: tuple[Piece, ...]
    right: tuple[Piece, ...]
    shared: int
    n_left: int
    n_right: int
    is_cut: bool


def difference(left: str, right: str) -> Difference:
    """Compare two texts word by word in their order; case and punctuation of a word make no difference."""
    found = [PIECES.findall(text) for text in (left, right)]
    words = [pieces[:MOST_WORDS] for pieces in found]
    alike = [[normal_form(word) or word.strip() for word in pieces] for pieces in words]
    blocks = SequenceMatcher(None, alike[0], alike[1], autojunk=False).get_opcodes()
    shared = sum(stop - start for tag, start, stop, _, _ in blocks if tag == "equal")
    own: list[Piece] = []
    other: list[Piece] = []
    for tag, first, last, start, stop in blocks:
        own.append(Piece("".join(words[0][first:last]), tag != "equal"))
        other.append(Piece("".join(words[1][start:stop]), tag != "equal"))
    is_cut = any(len(pieces) > MOST_WORDS for pieces in found)
    return Difference(_filled(own), _filled(other), shared, len(words[0]), len(words[1]), is_cut)


def _filled(pieces: list[Piece]) -> tuple[Piece, ...]:
    return tuple(piece for piece in pieces if piece.text)
