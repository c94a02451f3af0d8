"""How well each ranking finds the texts that state a fact: mean reciprocal rank, precision at 1, recall at 10."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forwardinf_core.audits.tracing.methods import TraceMethod
from forwardinf_core.audits.tracing.records import TraceScores
from forwardinf_core.audits.tracing.scoring import score_texts
from forwardinf_core.benchmarks.tracing_sets import FactQuery, FactSet
from forwardinf_core.errors import AuditError
from forwardinf_core.models.language_text import joined, prompt_of

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
    wanted = methods or (chosen.audit.method(),)
    queries = _askable(chosen, list(only if only is not None else chosen.half(half))[:n_queries])
    ranks: dict[str, list[NDArray[np.int64]]] = {}
    for number, method in enumerate(wanted):
        for query, scores in zip(queries, scores_of(chosen, method, queries, report), strict=True):
            for ranking, values in rankings(chosen, method, query, scores, with_others=number == 0).items():
                ranks.setdefault(ranking, []).append(ranks_of(values, query.proponents))
            if query.opponents:
                hurt = f"{method.name}, {method.form}: what says otherwise, among those that hurt"
                ranks.setdefault(hurt, []).append(ranks_of(-scores.placed(), query.opponents))
    return [figure(chosen.name, half, ranking, found) for ranking, found in ranks.items()]


def scores_of(
    chosen: FactSet, method: TraceMethod, queries: Sequence[FactQuery], report: Report
) -> Iterator[TraceScores]:
    """Yield every text's standing for each question, as the app computes it."""
    place, model = chosen.audit.place, chosen.audit.model
    place.prepare(method, lambda share, note: report(0.5 * share, f"{chosen.name}: {note}"))
    for number, query in enumerate(queries):
        asked = [prompt_of(model, query.prompt, query.answer)]
        yield score_texts(place, method, asked, joined(query.prompt, query.answer)).scores
        report(0.5 + 0.5 * (number + 1) / len(queries), f"{chosen.name}: {number + 1} of {len(queries)} queries")


def rankings(
    chosen: FactSet, method: TraceMethod, query: FactQuery, scores: TraceScores, *, with_others: bool
) -> dict[str, NDArray[np.generic]]:
    """Return a question's rankings by name: the method's, and those that stand beside it."""
    found: dict[str, NDArray[np.generic]] = {f"{method.name}, {method.form}": scores.placed()}
    if not with_others:
        return found
    others = {name: getattr(scores, name) for name in ("bm25", "embedding", "overlap", "fused")}
    return found | others | {"bm25, prompt alone": chosen.audit.place.lexical.bm25(query.prompt)}


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
