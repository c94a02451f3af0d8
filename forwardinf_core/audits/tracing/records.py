"""What tracing answers with: the question as tokens, and every text's standing in each ranking."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forwardinf_core.models.language_completion import Alternative
from forwardinf_core.models.language_text import Token
from forwardinf_core.store.binding import Option


@dataclass(frozen=True)
class Said:
    """A prompt with its completion, token by token. ``own`` says that the completion is the model's."""

    prompt: str
    completion: str
    own: bool
    tokens: tuple[Token, ...]
    target: tuple[int, ...]  # positions among the tokens that are asked about
    alternatives: tuple[Alternative, ...]  # what the model could say right after the prompt
    loss: float  # summed over the target tokens

    @property
    def target_text(self) -> str:
        """The words that are asked about."""
        return "".join(self.tokens[place].text for place in self.target).strip()


@dataclass(frozen=True)
class TraceScores:
    """Every text's standing, (n,) each, in the order of the corpus.

    ``influence`` positive = the text helped: learning it makes the completion likelier; ``raw`` is the same as the
    change of the text's loss. ``bm25``, ``embedding`` and ``overlap`` say what a text says, not what it taught.
    """

    influence: NDArray[np.float32]
    raw: NDArray[np.float32]
    bm25: NDArray[np.float32]
    embedding: NDArray[np.float32]
    overlap: NDArray[np.int64]
    fused: NDArray[np.float32]
    loss: NDArray[np.float32]  # of the unchanged model, summed over tokens
    strongest: NDArray[np.int64]  # first token of the piece of each document that moved most
    exact: NDArray[np.bool_]  # whether the text passed through the model; else its influence is read from its code

    def placed(self) -> NDArray[np.float64]:
        """Return influence as texts are ranked by it: what did not pass stands behind all that passed and helped."""
        return np.where(self.exact, self.influence, np.minimum(self.influence, 0.0)).astype(np.float64)

    def ranking(self, name: str) -> NDArray[np.int64]:
        """Return positions by falling score of a ranking; ties by position."""
        values: NDArray[np.generic] = getattr(self, name)
        return np.argsort(-values.astype(np.float64), kind="stable").astype(np.int64)


@dataclass(frozen=True)
class Trace:
    """A finished answer. ``rise`` is how much the step raised the loss of the question."""

    run_id: str
    said: Said
    method: str
    options: dict[str, Option]
    scores: TraceScores
    rise: float
    seconds: dict[str, float]

    @property
    def caveat(self) -> str:
        """Say what a shortlist leaves open, in words; "" where every text passed through the model."""
        passed, all_texts = int(self.scores.exact.sum()), len(self.scores.exact)
        if passed == all_texts:
            return ""
        return (
            f"Only {passed:,} of {all_texts:,} texts passed through the model. Where it was measured, such a "
            "choice held nine of the ten that helped most, and seven of the ten that hurt most; "
            "trace --shortlist 0 passes every text."
        )

    def helped(self, count: int) -> NDArray[np.int64]:
        """Return the texts that helped most, best first; only such as helped and passed through the model."""
        order = self.scores.ranking("influence")
        return order[(self.scores.influence[order] > 0) & self.scores.exact[order]][:count]

    def hurt(self, count: int) -> NDArray[np.int64]:
        """Return the texts that hurt most, worst first; only such as hurt and passed through the model."""
        order = np.argsort(self.scores.influence, kind="stable").astype(np.int64)
        return order[(self.scores.influence[order] < 0) & self.scores.exact[order]][:count]


@dataclass(frozen=True)
class TokenShare:
    """A token of a training text and how much it moved: positive = it helped. NaN-free; 0 for the first token."""

    text: str
    score: float


@dataclass(frozen=True)
class Group:
    """Texts that share a value of a column, with their summed influence."""

    name: str
    n_texts: int
    influence: float
    helped: int  # texts with a score above 0
