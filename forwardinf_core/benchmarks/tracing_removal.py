"""Does it hold? Retrain without the texts a ranking puts first, and see how much the query's loss rises.

One retraining leaves out the first k texts of all queries together: no text states the facts of two of them, so each
query loses its own texts and some of what others name besides. Loss rises are against a model retrained with the same
seed on everything. Where k is larger than the number of texts that state a fact, every good ranking takes all of them,
and what fills the rest decides; ``statements`` asks about facts that more texts state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from forwardinf_core.audits.tracing.fitting import LanguageFitOptions, suitable_training
from forwardinf_core.audits.tracing.methods import TraceMethod
from forwardinf_core.benchmarks.generation_figures import Floats, Interval, mean_interval
from forwardinf_core.benchmarks.tracing_ranking import rankings, scores_of
from forwardinf_core.benchmarks.tracing_sets import FactQuery, FactSet
from forwardinf_core.models.language import LanguageModel
from forwardinf_core.models.language_baseline import LanguageShape, language_module
from forwardinf_core.models.language_text import prompt_of
from forwardinf_core.models.language_training import train_language

RANDOM, BM25 = "random", "bm25"
LEFT_OUT = ("overlap", "bm25, prompt alone")

Report = Callable[[float, str], None]


@dataclass(frozen=True)
class RemovalFigure:
    """How much the queries' losses rose without the first k texts of a ranking, in nats; 95% interval over queries.

    ``beyond_bm25`` is this rise minus that without BM25's first k, by query, with its interval.
    """

    ranking: str
    k: int
    n_queries: int
    n_seeds: int
    n_removed: int
    rise: float
    low: float
    high: float
    beyond_bm25: Interval
    by_query: tuple[float, ...]


def known_queries(
    chosen: FactSet, half: str, count: int, *, statements: int = 1, largest_loss: float = 1.0
) -> list[FactQuery]:
    """Return queries the model answers with little loss, whose fact that many texts state, none of them two facts."""
    found: list[FactQuery] = []
    taken: set[int] = set()
    for query in chosen.half(half):
        if len(found) == count:
            break
        if len(query.proponents) < statements or not taken.isdisjoint(query.proponents):
            continue
        if _loss(chosen.audit.model, chosen.audit.model.module, query) <= largest_loss:
            found.append(query)
            taken.update(query.proponents)
    return found


def measure_removal(
    chosen: FactSet,
    queries: Sequence[FactQuery],
    methods: Sequence[TraceMethod],
    *,
    ks: Sequence[int] = (5, 20),
    seeds: Sequence[int] = (0, 1, 2),
    epochs: int | None = None,
    report: Report,
) -> list[RemovalFigure]:
    """Return the rises for random, BM25, embedding and every method. Cost: a retraining for each, k and seed."""
    orders = _orders(chosen, queries, methods, report)
    total, done = len(seeds) * (1 + len(orders) * len(ks)), 0
    rises: dict[tuple[str, int], list[list[float]]] = {}
    sizes: dict[tuple[str, int], int] = {}
    for seed in seeds:
        base = _losses(chosen, queries, np.zeros(0, np.int64), seed, epochs)
        done += 1
        report(done / total, f"Retrained {done} of {total}")
        for ranking, places in orders.items():
            for k in ks:
                removed = np.unique(np.concatenate([one[:k] for one in places]))
                after = _losses(chosen, queries, removed, seed, epochs)
                rises.setdefault((ranking, k), []).append([b - a for a, b in zip(base, after, strict=True)])
                sizes[ranking, k] = len(removed)
                done += 1
                report(done / total, f"Retrained {done} of {total}")
    by_query = {asked: np.array(found).mean(0) for asked, found in rises.items()}  # of (seeds, queries)
    return [
        _figure(ranking, k, by_query[ranking, k], by_query[BM25, k], len(seeds), sizes[ranking, k])
        for ranking, k in by_query
    ]


def _orders(
    chosen: FactSet, queries: Sequence[FactQuery], methods: Sequence[TraceMethod], report: Report
) -> dict[str, list[NDArray[np.int64]]]:
    generator = np.random.default_rng(0)
    orders = {RANDOM: [generator.permutation(len(chosen.audit.ids)) for _ in queries]}
    for number, method in enumerate(methods):
        for query, scores in zip(queries, scores_of(chosen, method, queries, report), strict=True):
            for name, values in rankings(chosen, method, query, scores, with_others=number == 0).items():
                if name not in LEFT_OUT:
                    orders.setdefault(name, []).append(_order(values))
    return orders


def _order(values: NDArray[np.generic]) -> NDArray[np.int64]:
    return np.argsort(-values.astype(np.float64), kind="stable").astype(np.int64)


def _losses(
    chosen: FactSet, queries: Sequence[FactQuery], removed: NDArray[np.int64], seed: int, epochs: int | None
) -> list[float]:
    """Return the queries' losses under a model trained without some texts, from the start that the seed gives."""
    model, pieces = chosen.audit.model, chosen.audit.place.pieces
    config = model.module.config
    shape = LanguageShape(
        vocabulary=len(model.tokenizer),
        width=int(config.n_embd),  # type: ignore[union-attr,arg-type]
        layers=int(config.n_layer),  # type: ignore[union-attr,arg-type]
        heads=int(config.n_head),  # type: ignore[union-attr,arg-type]
        context=model.context,
    )
    module = language_module("causal-lm", shape, len(model.tokenizer), seed=seed)
    kept = pieces.without(removed)
    options = suitable_training(sum(pieces.lengths), LanguageFitOptions(seed=seed, epochs=epochs))
    train_language(module, model.objective, kept.lengths, kept.batch, options)
    return [_loss(model, module, query) for query in queries]


@torch.inference_mode()
def _loss(model: LanguageModel, module: nn.Module, query: FactQuery) -> float:
    batch = prompt_of(model, query.prompt, query.answer).batch()
    return float(model.objective.losses(model.objective.outputs(module, batch), batch)[0])


def _figure(ranking: str, k: int, rises: Floats, bm25: Floats, n_seeds: int, n_removed: int) -> RemovalFigure:
    rise, beyond = mean_interval(rises), mean_interval(rises - bm25)
    by_query = tuple(float(value) for value in rises)
    return RemovalFigure(ranking, k, len(rises), n_seeds, n_removed, rise.mean, rise.low, rise.high, beyond, by_query)
