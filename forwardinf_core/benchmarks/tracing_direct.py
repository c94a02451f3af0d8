"""The mirror, checked from the other side: does a step towards a text move the answer as the text's score says?

Scores come from a step away from the answer and passes over the texts. Here a text that a ranking puts first or last is
itself stepped towards, through the same curvature, and the loss of the answer is read before and after: a text that
helped should lower it, one that hurt should raise it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from forwardinf_core.audits.tracing.methods import TraceMethod
from forwardinf_core.audits.tracing.preparation import Workplace
from forwardinf_core.benchmarks.tracing_ranking import scores_of
from forwardinf_core.benchmarks.tracing_sets import FactQuery, FactSet
from forwardinf_core.influence.objective import Batch
from forwardinf_core.influence.step import take_steps
from forwardinf_core.influence.update import SIDES, StepOptions, moved_parameters
from forwardinf_core.models.language_text import prompt_of

FIRST = 10  # texts of each end of a ranking
RISE = 0.3  # of the text's log-odds: a short step, so that the sign is that of the derivative
DRAWS = 1_000

Report = Callable[[float, str], None]


@dataclass(frozen=True)
class DirectFigure:
    """Share of the texts at one end of a ranking that move the answer as said; 95% interval over questions.

    ``statements`` and ``others`` are the shares among texts that state the fact and among all others, with their
    numbers; None where there are none.
    """

    ranking: str
    end: str
    n_queries: int
    n_texts: int
    as_said: float
    low: float
    high: float
    statements: float | None
    n_statements: int
    others: float | None


def measure_direct(
    chosen: FactSet, queries: Sequence[FactQuery], method: TraceMethod, report: Report
) -> list[DirectFigure]:
    """Return the figures of both ends of a method's ranking. Cost: a ranking and 20 steps on single texts a query."""
    place = chosen.audit.place
    found: dict[str, list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]] = {"helped": [], "hurt": []}
    for query, scores in zip(queries, scores_of(chosen, method, queries, report), strict=True):
        asked = prompt_of(place.model, query.prompt, query.answer).batch()
        for end, sign in (("helped", -1), ("hurt", 1)):
            standing = np.where(scores.exact, sign * scores.influence, 0.0)  # the first of an end is the most negative
            documents = [one for one in np.argsort(standing, kind="stable")[:FIRST] if standing[one] < 0]
            if not documents:
                continue
            moved = np.array([_moves(place, method, asked, int(document)) for document in documents])
            found[end].append((sign * moved > 0, np.isin(documents, query.proponents)))
    return [_figure(f"{method.name}, {method.form}", end, parts) for end, parts in found.items()]


def _moves(place: Workplace, method: TraceMethod, asked: Batch, document: int) -> float:
    """Return the change of the answer's loss after a short step towards the first piece of a text."""
    network, objective = place.network(method), place.model.objective
    piece = int(np.flatnonzero(place.pieces.document == document)[0])
    options = StepOptions(method=method.step_options().method, direction="descent", rise=RISE, damping=method.damping)
    update = take_steps(network, [place.batch_for(method, [piece])], options, place.curvature(method))[0]
    asked = place.with_hidden(method, asked)
    with torch.no_grad():
        before, after = (
            objective.losses(network.outputs(moved_parameters(network, update, sign), asked), asked)[0].double()
            for sign in (0.0, SIDES[update.direction][0].sign)
        )
    return float(after - before)


def _figure(ranking: str, end: str, parts: list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]) -> DirectFigure:
    by_query = np.array([right.mean() for right, _ in parts])
    right, states = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    generator = np.random.default_rng(0)
    means = by_query[generator.integers(0, len(by_query), (DRAWS, len(by_query)))].mean(1)
    return DirectFigure(
        ranking,
        end,
        len(parts),
        len(right),
        float(by_query.mean()),
        float(np.quantile(means, 0.025)),
        float(np.quantile(means, 0.975)),
        float(right[states].mean()) if states.any() else None,
        int(states.sum()),
        float(right[~states].mean()) if not states.all() else None,
    )
