"""What states the same thing: BM25, words in common, and the likeness of the model's own hidden states.

These answer another question than influence. They look at what a text says; influence at what it taught the model.
"""

from __future__ import annotations

import logging
import math
import re
import threading
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import bm25s

WORD = re.compile(r"\w+")
BOUNDARY = -1
_BUILDING = threading.Lock()


def words_of(text: str) -> list[str]:
    """Return the words of a text, in lower case."""
    return WORD.findall(text.casefold())


class LexicalIndex:
    """The words of a corpus, ready to be searched. Building takes about a second for 50,000 short texts."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._n_texts = len(texts)
        vocabulary: dict[str, int] = {}
        stream: list[int] = []
        starts: list[int] = []
        self._words: list[list[str]] = []
        for text in texts:
            words = words_of(text)
            self._words.append(words)
            starts.append(len(stream))
            stream.append(BOUNDARY)  # no run of words crosses from one text to the next
            stream += [vocabulary.setdefault(word, len(vocabulary)) for word in words]
        self._vocabulary = vocabulary
        self._stream = np.array(stream, np.int64)
        self._starts = np.array(starts, np.int64)

    @cached_property
    def _bm25(self) -> bm25s.BM25 | None:
        import bm25s

        logging.getLogger("bm25s").setLevel(logging.WARNING)  # it asks for every detail when it is imported
        if not self._vocabulary:
            return None
        index = bm25s.BM25()
        index.index(self._words, show_progress=False)
        return index

    def bm25(self, query: str) -> NDArray[np.float32]:
        """Return the BM25 score of every text for the query's words, (n,); 0 where they have none in common."""
        words = [word for word in words_of(query) if word in self._vocabulary]
        with _BUILDING:
            index = self._bm25
        if not words or index is None:
            return np.zeros(self._n_texts, np.float32)
        return np.asarray(index.get_scores(words), np.float32)

    def overlap(self, query: str) -> NDArray[np.int64]:
        """Return the length in words of the longest run of words that each text shares with the query, (n,)."""
        longest = np.zeros(len(self._stream), np.int64)
        running = np.zeros(len(self._stream), np.int64)
        for word in words_of(query):
            same = self._stream == self._vocabulary.get(word, BOUNDARY - 1)
            shifted = np.concatenate([np.zeros(1, np.int64), running[:-1]])
            running = np.where(same, shifted + 1, 0)
            np.maximum(longest, running, out=longest)
        if not self._n_texts:
            return np.zeros(0, np.int64)
        return np.maximum.reduceat(longest, self._starts)


def likeness(embeddings: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the cosine between the query's mean hidden state and every text's, (n,), from −1 to 1.

    The corpus mean is taken off first: hidden states of a language model lie in a narrow cone, where all look alike.
    """
    centre = embeddings.mean(0)
    texts, asked = embeddings - centre, query - centre
    norms = np.linalg.norm(texts, axis=1) * np.linalg.norm(asked)
    found: NDArray[np.float32] = (texts @ asked) / np.maximum(norms, 1e-12)
    return found


FUSED_WEIGHTS = {"influence": 0.25, "embedding": 0.05}
"""Chosen on the development halves (docs/tracing.md): BM25 leads, what the model learned breaks ties."""


def fused(
    bm25: NDArray[np.float32], influence: NDArray[np.float32], embedding: NDArray[np.float32], certainty: float
) -> NDArray[np.float32]:
    """Return one ranking of three: each by its largest value, negative ones as 0, influence and likeness weighed.

    ``certainty``: how probable the model finds the answer, 0 to 1. What it does not know it cannot point to, so both
    weights are multiplied by its root.
    """
    learned = FUSED_WEIGHTS["influence"] * _shares(influence) + FUSED_WEIGHTS["embedding"] * _shares(embedding)
    return (_shares(bm25) + math.sqrt(certainty) * learned).astype(np.float32)


def _shares(values: NDArray[np.float32]) -> NDArray[np.float32]:
    positive = np.maximum(values, np.float32(0.0))
    return (positive / max(float(positive.max(initial=0.0)), 1e-12)).astype(np.float32)
