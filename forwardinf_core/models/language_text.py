"""Texts as tokens: training documents cut into pieces that fit the model, and the prompt a person asks about.

A document longer than the context is read in pieces that overlap by one token, so that every token but the first is
predicted exactly once and the losses of the pieces add up to the document's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from forwardinf_core.errors import DataError
from forwardinf_core.influence.language import IGNORED
from forwardinf_core.influence.objective import Batch
from forwardinf_core.models.language import LanguageModel

AT_ONCE = 512  # texts given to the tokenizer together
EMPTY_TARGET = -1


@dataclass(frozen=True)
class Pieces:
    """Documents as sequences of tokens in order of length, ready to be read in batches with little padding.

    ``inputs`` are the tokens the model reads, ``targets`` those it should say: the same for a causal model.
    ``document`` (n,) is the position of the document each piece is from, ``start`` (n,) its first token there.
    """

    inputs: tuple[NDArray[np.int32], ...]
    targets: tuple[NDArray[np.int32], ...]
    document: NDArray[np.int64]
    start: NDArray[np.int64]
    n_documents: int
    pad: int
    is_causal: bool

    def __len__(self) -> int:
        return len(self.inputs)

    @cached_property
    def lengths(self) -> list[int]:
        """Tokens of each piece, read and said: what a pass over it costs."""
        if self.is_causal:
            return [len(piece) for piece in self.inputs]
        return [len(read) + len(said) for read, said in zip(self.inputs, self.targets, strict=True)]

    def batch(self, positions: Sequence[int]) -> Batch:
        """Return pieces padded on the right, with padding masked."""
        inputs = _padded([self.inputs[position] for position in positions], self.pad)
        widths = torch.tensor([len(self.inputs[position]) for position in positions])
        mask = torch.arange(inputs.shape[1]).unsqueeze(0) < widths.unsqueeze(1)
        labels = _padded([self.targets[position] for position in positions], IGNORED)
        return {"input_ids": inputs, "attention_mask": mask.long(), "labels": labels}

    def by_document(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum the pieces' values (n, …) over their documents, (n_documents, …)."""
        total = np.zeros((self.n_documents, *values.shape[1:]))
        np.add.at(total, self.document, values)
        return total

    @cached_property
    def counted(self) -> NDArray[np.int64]:
        """Tokens of each document whose loss counts, (n_documents,)."""
        own = np.array([len(piece) - self.is_causal for piece in self.targets], np.float64).reshape(-1)
        return self.by_document(own).astype(np.int64)

    def without(self, documents: NDArray[np.int64]) -> Pieces:
        """Return the pieces of all other documents, numbered as before."""
        kept = np.flatnonzero(~np.isin(self.document, documents)).tolist()
        return self._chosen(kept)

    def of(self, documents: NDArray[np.int64]) -> Pieces:
        """Return the pieces of these documents alone, numbered as before."""
        return self._chosen(np.flatnonzero(np.isin(self.document, documents)).tolist())

    def _chosen(self, kept: list[int]) -> Pieces:
        return Pieces(
            tuple(self.inputs[position] for position in kept),
            tuple(self.targets[position] for position in kept),
            self.document[kept],
            self.start[kept],
            self.n_documents,
            self.pad,
            self.is_causal,
        )


def pieces_of(model: LanguageModel, texts: Sequence[str], targets: Sequence[str] | None = None) -> Pieces:
    """Return documents as pieces. ``targets`` are what a sequence-to-sequence model should say of each text.

    Without targets such a model reads the first half of a text's tokens and should say the rest. Documents of fewer
    than two tokens have no piece: nothing in them is predicted from something before it.
    """
    inputs: list[NDArray[np.int32]] = []
    said: list[NDArray[np.int32]] = []
    place: list[tuple[int, int]] = []
    for first in range(0, len(texts), AT_ONCE):
        tokens = _tokens(model, texts[first : first + AT_ONCE])
        answers = None if targets is None else _tokens(model, targets[first : first + AT_ONCE])
        for offset, read in enumerate(tokens):
            cut = (
                _causal_cuts(read, model.context)
                if model.task == "causal-lm"
                else _pairs(read, None if answers is None else answers[offset], model)
            )
            for start, source, target in cut:
                inputs.append(source)
                said.append(target)
                place.append((first + offset, start))
    order = sorted(range(len(inputs)), key=lambda index: (len(inputs[index]) + len(said[index]), index))
    where = np.array(place, np.int64).reshape(-1, 2)[order]
    return Pieces(
        tuple(inputs[index] for index in order),
        tuple(said[index] for index in order),
        where[:, 0],
        where[:, 1],
        len(texts),
        model.pad,
        model.task == "causal-lm",
    )


@dataclass(frozen=True)
class Token:
    """A token of a text as a person sees it: its characters, and the probability the model gave it."""

    text: str
    probability: float  # NaN for the first token, which nothing predicts
    in_prompt: bool


@dataclass(frozen=True)
class Prompt:
    """A prompt and its completion as tokens. ``ids`` are of both for a causal model, of the completion alone else.

    ``places`` are the characters (start, stop) of each of ``ids`` in ``text``. ``target`` are the positions that the
    question is about.
    """

    text: str
    source: tuple[int, ...]  # what a sequence-to-sequence model reads; empty for a causal model
    ids: tuple[int, ...]
    places: tuple[tuple[int, int], ...]
    target: tuple[int, ...]

    def batch(self) -> Batch:
        """Return the query as a batch of one row whose labels are the target tokens."""
        labels = torch.full((1, len(self.ids)), IGNORED)
        own = torch.tensor([self.ids])
        labels[0, list(self.target)] = own[0, list(self.target)]
        read = own if not self.source else torch.tensor([self.source])
        return {"input_ids": read, "attention_mask": torch.ones_like(read), "labels": labels}


def joined(prompt: str, completion: str) -> str:
    """Return prompt and completion as one text, with a space between them where neither has one."""
    gap = "" if not completion or completion[0].isspace() or prompt[-1:].isspace() else " "
    return prompt + gap + completion


def prompt_of(model: LanguageModel, prompt: str, completion: str, span: Sequence[int] = ()) -> Prompt:
    """Return the question as tokens. ``span``: positions among its tokens to ask about; all of the completion else.

    Raises DataError, in a sentence, for an empty prompt, a completion without tokens, and one too long to read.
    """
    require_text(prompt)
    if model.task == "seq2seq-lm":
        return _paired_prompt(model, prompt, completion, span)
    text = joined(prompt, completion)
    ids, places = _with_places(model, text)
    target = [index for index, (start, stop) in enumerate(places) if stop > len(prompt) and stop > start and index]
    _require_room(model, len(ids))
    if not target:
        raise _no_tokens(completion)
    return Prompt(text, (), tuple(ids), tuple(places), _chosen_span(span, target, len(ids)))


def require_text(prompt: str) -> None:
    """Raise DataError where a prompt is empty."""
    if not prompt.strip():
        raise DataError("The prompt is empty.", hint="Type the beginning of a text the model should go on with.")


def prompt_tokens(model: LanguageModel, prompt: str) -> list[int]:
    """Return a prompt's tokens without the one that ends a text. Raises DataError where it is empty or too long."""
    require_text(prompt)
    ids = _with_places(model, prompt)[0] if model.task == "causal-lm" else list(model.tokenizer(prompt)["input_ids"])
    _require_room(model, len(ids) + 1)
    if not ids:
        raise DataError("The prompt has no tokens.", hint="The model's tokenizer knows nothing in it; use other words.")
    return ids


def _paired_prompt(model: LanguageModel, prompt: str, completion: str, span: Sequence[int]) -> Prompt:
    source = list(model.tokenizer(prompt)["input_ids"])
    ids, places = _with_places(model, completion)
    _require_room(model, max(len(source), len(ids)))
    if not ids or not source:
        raise _no_tokens(completion) if source else DataError("The prompt has no tokens.", hint="Use other words.")
    target = [index for index, (start, stop) in enumerate(places) if stop > start]
    return Prompt(completion, tuple(source), tuple(ids), tuple(places), _chosen_span(span, target, len(ids)))


def _with_places(model: LanguageModel, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    found = model.tokenizer(text, return_offsets_mapping=True)
    ids, places = list(found["input_ids"]), [tuple(place) for place in found["offset_mapping"]]
    if ids and ids[-1] == model.end and places[-1][0] == places[-1][1]:
        ids, places = ids[:-1], places[:-1]
    return ids, places


def _chosen_span(span: Sequence[int], target: Sequence[int], n_tokens: int) -> tuple[int, ...]:
    if not span:
        return tuple(target)
    outside = [index for index in span if not 0 <= index < n_tokens]
    if outside:
        raise DataError(
            f"There is no token {outside[0]} in the text.", hint=f"Its {n_tokens} tokens are numbered from 0."
        )
    return tuple(sorted(set(span)))


def _require_room(model: LanguageModel, n_tokens: int) -> None:
    if n_tokens > model.context:
        raise DataError(
            f"The prompt has {n_tokens} tokens with its completion, and the model reads {model.context}.",
            hint="Leave out its beginning.",
        )


def _no_tokens(completion: str) -> DataError:
    shown = completion if len(completion) <= 40 else completion[:39] + "…"
    return DataError(
        f"The completion {shown!r} has no tokens of its own.", hint="Type the words that the model should explain."
    )


def _tokens(model: LanguageModel, texts: Sequence[str]) -> list[list[int]]:
    found = model.tokenizer(list(texts), verbose=False)["input_ids"]
    return [list(ids) for ids in found]


def _causal_cuts(tokens: list[int], context: int) -> list[tuple[int, NDArray[np.int32], NDArray[np.int32]]]:
    cuts = []
    for start in range(0, max(len(tokens) - 1, 0), context - 1):
        piece = np.array(tokens[start : start + context], np.int32)
        cuts.append((start, piece, piece))
    return cuts


def _pairs(
    read: list[int], answer: list[int] | None, model: LanguageModel
) -> list[tuple[int, NDArray[np.int32], NDArray[np.int32]]]:
    """Return (first token, read, said) of one document. A long text without an answer is several pairs."""
    if answer is not None:
        source = np.array(read[: model.context], np.int32)
        return [
            (start, source, np.array(answer[start : start + model.context], np.int32))
            for start in range(0, len(answer), model.context)
            if len(source)
        ]
    whole = 2 * model.context
    pairs = []
    for start in range(0, len(read), whole):
        part = read[start : start + whole]
        middle = len(part) // 2
        if middle:
            pairs.append((start + middle, np.array(part[:middle], np.int32), np.array(part[middle:], np.int32)))
    return pairs


def _padded(rows: Sequence[NDArray[np.int32]], fill: int) -> torch.Tensor:
    longest = max(len(row) for row in rows)
    table = np.full((len(rows), longest), fill, np.int64)
    for index, row in enumerate(rows):
        table[index, : len(row)] = row
    return torch.from_numpy(table)
