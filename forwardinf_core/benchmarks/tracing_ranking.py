"""How well each ranking finds the texts that state a fact: mean reciprocal rank, precision at 1, recall at 10."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forwardinf_core.audits.tracing.lexical import fused, likeness
from forwardinf_core.audits.tracing.methods import DEFAULT, TraceMethod, trace_method
from forwardinf_core.audits.tracing.scoring import embedding_of, first_order_scores, score_texts
from forwardinf_core.benchmarks.tracing_sets import FactQuery, FactSet
from forwardinf_core.errors import AuditError
from forwardinf_core.models.language_text import Prompt, joined, prompt_of

AT = 10
DRAWS = 1_000

Report = Callable[[float, str], None]


@dataclass(frozen=True)
class RankFigure:
    """One ranking on one half of a set; ``low`` and ``high`` are a 95% interval of the MRR over queries."""

    data: str
    half: str
    ranking: str
    n_queries: int
    mrr: float
    low: float
    high: float
    precision_at_1: float
    recall_at_10: float


def ranks_of(values: NDArray[np.generic], proponents: Sequence[int]) -> NDArray[np.int64]:
    """Return the places (from 1) of some texts in a ranking by falling value; a tie takes the worst place."""
    numbers = np.asarray(values, np.float64)
    ordered = np.sort(numbers)
    return np.array([len(ordered) - np.searchsorted(ordered, numbers[p], side="left") for p in proponents], np.int64)


def figure(data: str, half: str, ranking: str, ranks: Sequence[NDArray[np.int64]]) -> RankFigure:
    """Return the figures of one ranking from the ranks of each query's proponents."""
    reciprocal = np.array([1.0 / one.min() for one in ranks])
    generator = np.random.default_rng(0)
    means = reciprocal[generator.integers(0, len(reciprocal), (DRAWS, len(reciprocal)))].mean(1)
    return RankFigure(
        data,
        half,
        ranking,
        len(ranks),
        float(reciprocal.mean()),
        float(np.quantile(means, 0.025)),
        float(np.quantile(means, 0.975)),
        float(np.mean([one.min() == 1 for one in ranks])),
        float(np.mean([(one <= AT).mean() for one in ranks])),
    )


def measure(
    chosen: FactSet,
    half: str,
    *,
    n_queries: int,
    methods: Sequence[TraceMethod] = (),
    only: Sequence[FactQuery] | None = None,
    report: Report,
) -> list[RankFigure]:
    """Return the figures of every comparison and of the methods, on the first queries of a half."""
    wanted = methods or (trace_method(DEFAULT),)
    queries = _askable(chosen, list(only if only is not None else chosen.half(half))[:n_queries])
    prompts = [prompt_of(chosen.audit.model, query.prompt, query.answer) for query in queries]
    ranks: dict[str, list[NDArray[np.int64]]] = {}
    for number, method in enumerate(wanted):
        scores = influence_of(chosen, method, prompts, report)
        for place, query in enumerate(queries):
            own = scores[:, place]
            compared = comparisons(chosen, query, prompts[place], own) if number == 0 else {}
            for ranking, values in (compared | {f"{method.name}, {method.form}": own}).items():
                ranks.setdefault(ranking, []).append(ranks_of(values, query.proponents))
    return [figure(chosen.name, half, ranking, found) for ranking, found in ranks.items()]


def influence_of(
    chosen: FactSet, method: TraceMethod, prompts: Sequence[Prompt], report: Report
) -> NDArray[np.float32]:
    """Return the influence of every text on every question, (n, n_questions).

    With a curvature, in the limit of a vanishing step, one pass for all; else by a step and two passes for each.
    """
    place = chosen.audit.place
    place.prepare(method, lambda share, note: report(0.5 * share, f"{chosen.name}: {note}"))
    if method.curvature is not None:
        found = first_order_scores(place, method, prompts, lambda share, note: report(0.5 + 0.5 * share, note))
        return found.numpy().astype(np.float32)
    columns = []
    for number, prompt in enumerate(prompts):
        columns.append(score_texts(place, method, [prompt], prompt.text).scores.influence)
        report(0.5 + 0.5 * (number + 1) / len(prompts), f"{chosen.name}: {number + 1} of {len(prompts)} queries")
    return np.stack(columns, 1)


def comparisons(
    chosen: FactSet, query: FactQuery, prompt: Prompt, influence: NDArray[np.float32]
) -> dict[str, NDArray[np.generic]]:
    """Return the other rankings of the corpus for one query, and the one that is fused with its influence."""
    place = chosen.audit.place
    words = joined(query.prompt, query.answer)
    bm25 = place.lexical.bm25(words)
    alike = likeness(place.base()[1].numpy(), embedding_of(place, prompt))
    return {
        "bm25": bm25,
        "bm25, prompt alone": place.lexical.bm25(query.prompt),
        "embedding": alike,
        "overlap": place.lexical.overlap(words),
        "fused": fused(bm25, influence, alike),
    }


def _askable(chosen: FactSet, queries: list[FactQuery]) -> list[FactQuery]:
    """Leave out what is longer than the model can read."""
    found = []
    for query in queries:
        try:
            prompt_of(chosen.audit.model, query.prompt, query.answer)
        except AuditError:
            continue
        found.append(query)
    return found
