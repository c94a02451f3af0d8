"""From a question to every text's score: one step on the question, then forward passes over the corpus."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from forwardinf_core.audits.tracing.lexical import fused, likeness
from forwardinf_core.audits.tracing.methods import TraceMethod
from forwardinf_core.audits.tracing.preparation import BATCH_TOKENS, Workplace, silent
from forwardinf_core.audits.tracing.records import TokenShare, TraceScores
from forwardinf_core.influence.language import IGNORED, LanguageModelling
from forwardinf_core.influence.language_replay import entering_last_block
from forwardinf_core.influence.language_scoring import far_scores, normalised, relative, token_scores
from forwardinf_core.influence.objective import Batch
from forwardinf_core.influence.step import take_steps
from forwardinf_core.influence.update import Update
from forwardinf_core.models.language_completion import losses_of_tokens
from forwardinf_core.models.language_text import Prompt, pieces_of
from forwardinf_core.models.language_training import bounded

PIECES_SHOWN = 8  # of a long document, whose tokens are scored one by one when it is opened

Report = Callable[[float, str], None]


@dataclass(frozen=True)
class Scored:
    """Scores with the update they come from, and the seconds of each phase."""

    scores: TraceScores
    update: Update
    seconds: dict[str, float]


def together(prompts: Sequence[Prompt]) -> Batch:
    """Return several questions as one batch: the step then moves away from all of them (a set of queries)."""
    batches = [prompt.batch() for prompt in prompts]
    fills = {"input_ids": 0, "attention_mask": 0, "labels": IGNORED}
    return {
        name: torch.cat([_widened(one[name], max(b[name].shape[1] for b in batches), fill) for one in batches])
        for name, fill in fills.items()
    }


def step_on(place: Workplace, method: TraceMethod, prompts: Sequence[Prompt], report: Report = silent) -> Update:
    """Return the step that makes the questions' answers less likely."""
    query = place.with_hidden(method, together(prompts))
    curvature = place.curvature(method, report)
    n_tokens = sum(len(prompt.target) for prompt in prompts) / len(prompts)
    return take_steps(place.network(method), [query], method.step_options(n_tokens), curvature)[0]


def score_texts(
    place: Workplace, method: TraceMethod, prompts: Sequence[Prompt], words: str, report: Report = silent
) -> Scored:
    """Return every text's standing for the questions. ``words`` are what the comparisons search for."""
    started = time.perf_counter()
    place.prepare(method, lambda share, note: report(0.5 * share, note))
    prepared = time.perf_counter()
    update = step_on(place, method, prompts)
    stepped = time.perf_counter()
    bm25, embedding = place.lexical.bm25(words), alike(place, prompts)
    compared = time.perf_counter()
    exact = np.ones(place.pieces.n_documents, np.bool_)
    batches, codes = place.batches, torch.zeros(len(place.pieces))
    if method.shortlist and method.shortlist < place.pieces.n_documents:
        codes = place.codes(method).scores(update)
        exact = shortlisted(place, method, codes, (bm25, embedding))
        kept = np.flatnonzero(exact[place.pieces.document]).tolist()
        batches = bounded(kept, place.pieces.lengths, BATCH_TOKENS)
    coded = time.perf_counter()
    per_piece = codes.clone()
    for number, positions in enumerate(batches):
        per_piece[positions] = piece_scores(place, method, positions, update)
        report(0.5 + 0.45 * (number + 1) / len(batches), "Scoring the texts")
    passed = time.perf_counter()
    _bring_to_scale(per_piece, codes, torch.from_numpy(exact[place.pieces.document]))
    change = place.by_document(per_piece).float()
    influence = read_as(place, method, change).numpy().astype(np.float32)
    scores = TraceScores(
        influence=influence,
        raw=change.numpy().astype(np.float32),
        bm25=bm25,
        embedding=embedding,
        overlap=place.lexical.overlap(words),
        fused=fused(bm25, influence, embedding, certainty(place, prompts)),
        loss=place.base()[0].numpy(),
        strongest=strongest_passages(place, per_piece),
        exact=exact,
    )
    report(1.0, "Done")
    ended = time.perf_counter()
    seconds = {
        "prepare": prepared - started,
        "step": stepped - prepared,
        "codes": coded - compared,
        "pass": passed - coded,
        "compare": ended - passed + compared - stepped,
    }
    return Scored(scores, update, seconds)


def piece_scores(place: Workplace, method: TraceMethod, positions: Sequence[int], update: Update) -> Tensor:
    """Return the scores of some pieces, (n,) float32: after a long step by one pass, else by two."""
    batch, network = place.batch_for(method, positions), place.network(method)
    if method.is_far:
        return far_scores(network, batch, update, place.piece_losses()[positions]).float()
    return token_scores(network, batch, update).sum(1)


def _bring_to_scale(scores: Tensor, codes: Tensor, passed: Tensor) -> None:
    """Scale scores that were read from codes, in place, as the passed pieces say: a finite step moves losses further.

    The factor is the least-squares slope of scores on codes, never below 0.
    """
    slope = (scores[passed] @ codes[passed]) / codes[passed].square().sum().clamp_min(1e-30)
    scores[~passed] *= slope.clamp_min(0)


def shortlisted(
    place: Workplace, method: TraceMethod, per_piece: Tensor, beside: Sequence[NDArray[np.float32]]
) -> NDArray[np.bool_]:
    """Say of each document, (n,), whether it passes through the model: codes and others ``beside`` name them in turn.

    Codes' scores are read by the root of the text's self-influence, which they hold too: else long texts come first.
    They tell the limit of a short step. What hurts after a long one says another answer of the same thing, and is found
    by BM25 and likeness (docs/tracing.md).
    """
    own = place.by_document(place.codes(method).norms).float()
    standing = relative(place.by_document(per_piece).float(), own).numpy()
    return taken_in_turn([np.argsort(-values, kind="stable") for values in (standing, *beside)], method.shortlist)


def taken_in_turn(orders: Sequence[NDArray[np.int64]], count: int) -> NDArray[np.bool_]:
    """Say of each of n places, (n,), whether it is taken when several orders of all (n,) take their next in turn."""
    earliest = np.full(len(orders[0]), len(orders) * len(orders[0]), np.int64)
    for turn, order in enumerate(orders):
        earliest[order] = np.minimum(earliest[order], np.arange(len(order)) * len(orders) + turn)
    taken = np.zeros(len(earliest), np.bool_)
    taken[np.argsort(earliest, kind="stable")[:count]] = True
    return taken


def read_as(place: Workplace, method: TraceMethod, change: Tensor) -> Tensor:
    """Return changes of the documents' losses (n,) in the form the method reads them."""
    losses = place.base()[0]
    if method.form == "normalised":
        return normalised(change, losses)
    if method.form == "relative":
        return relative(change, place.own(method))
    if method.reduction == "mean":
        return change / torch.from_numpy(place.pieces.counted).clamp_min(1)
    return change


def token_shares(
    place: Workplace, method: TraceMethod, update: Update, document: int, *, around: int = 0
) -> tuple[TokenShare, ...]:
    """Return the tokens of one training text with what each adds to its score.

    Of a document in more pieces than PIECES_SHOWN, those around its token ``around`` are read; the others count 0.
    """
    return _shares(place, method, document, lambda _batch: update, around)


def own_token_shares(place: Workplace, method: TraceMethod, document: int) -> tuple[TokenShare, ...]:
    """Return the tokens of one training text with how much of each is lost by a step away from the text itself.

    Of a document in pieces, each of the first PIECES_SHOWN is asked about by itself.
    """
    curvature = place.curvature(method, of_odds=True)
    network, options = place.network(method), method.step_options()
    return _shares(place, method, document, lambda batch: take_steps(network, [batch], options, curvature)[0], 0)


def _shares(
    place: Workplace, method: TraceMethod, document: int, update_on: Callable[[Batch], Update], around: int
) -> tuple[TokenShare, ...]:
    """Return the tokens of one document with their scores by ``update_on``, which is asked of every piece."""
    model = place.model
    text = place.corpus.texts[document]
    targets = place.corpus.targets
    own = pieces_of(model, [text], None if targets is None else [targets[document]])
    said = text if targets is None else targets[document]
    found = model.tokenizer(said, return_offsets_mapping=True, verbose=False)
    scores = np.zeros(len(found["input_ids"]))
    objective = model.objective
    assert isinstance(objective, LanguageModelling)
    for piece in np.argsort(np.abs(own.start - around), kind="stable")[:PIECES_SHOWN].tolist():
        batch = place.with_hidden(method, own.batch([piece]))
        values = token_scores(place.network(method), batch, update_on(batch))[0].numpy()
        first = int(own.start[piece]) + (1 if own.is_causal else 0)
        scores[first : first + len(values)] = values[: len(scores) - first]
    return shares_of(said, found["offset_mapping"], scores)


def shares_of(said: str, places: Sequence[tuple[int, int]], scores: NDArray[np.float64]) -> tuple[TokenShare, ...]:
    """Return tokens as they stand in a text, each character once.

    Tokens that are bytes of one character (an emoji, a script the tokenizer hardly knows) are one share.
    """
    shares: list[TokenShare] = []
    end = 0
    for (start, stop), score in zip(places, scores.tolist(), strict=True):
        if stop <= start:
            continue
        if shares and start < end:
            last = shares[-1]
            shares[-1] = TokenShare(last.text + said[end:stop], last.score + score)
        else:
            shares.append(TokenShare(said[start:stop], score))
        end = max(end, stop)
    return tuple(shares)


def strongest_passages(place: Workplace, per_piece: Tensor) -> NDArray[np.int64]:
    """Return the first token of each document's piece that moved most, (n,); 0 where it has none."""
    pieces = place.pieces
    found = np.zeros(pieces.n_documents, np.int64)
    order = np.argsort(per_piece.abs().numpy(), kind="stable")  # the strongest comes last and stays
    found[pieces.document[order]] = pieces.start[order]
    return found


def certainty(place: Workplace, prompts: Sequence[Prompt]) -> float:
    """Return how probable the model finds the answers, 0 to 1: a geometric mean over each one's tokens."""
    losses = losses_of_tokens(place.model, together(prompts)).double().sum(1)
    counts = torch.tensor([len(prompt.target) for prompt in prompts])
    return float((-losses / counts).exp().mean())


def alike(place: Workplace, prompts: Sequence[Prompt]) -> NDArray[np.float32]:
    """Return the likeness of every document's mean hidden state to that of the questions, (n,)."""
    asked = np.mean([embedding_of(place, prompt) for prompt in prompts], axis=0)
    return likeness(place.base()[1].numpy(), asked.astype(np.float32))


def embedding_of(place: Workplace, prompt: Prompt) -> NDArray[np.float32]:
    """Return the mean hidden state of a question with its completion, (width,)."""
    hidden = entering_last_block(place.model.module, place.model.objective, prompt.batch())[0]
    mean: NDArray[np.float32] = hidden[0].mean(0).numpy()
    return mean


def _widened(values: Tensor, width: int, fill: int) -> Tensor:
    return F.pad(values, (0, width - values.shape[1]), value=fill)
