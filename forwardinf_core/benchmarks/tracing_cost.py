"""What a query costs, as a multiple of one forward pass over the corpus in the same process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from forwardinf_core.audits.tracing.audit import TracingAudit
from forwardinf_core.audits.tracing.methods import TraceMethod
from forwardinf_core.audits.tracing.scoring import score_texts
from forwardinf_core.models.language_text import joined, prompt_of

REPEATS = 3


@dataclass(frozen=True)
class CostFigure:
    """Seconds of a warm query by one method, and in plain forward passes over the corpus.

    ``answer_seconds``: from the question to the stored answer, as a person waits for it; ``phases``: of the scoring.
    """

    method: str
    shortlist: int  # texts that pass through the model, 0 = all
    n_texts: int
    n_tokens: int
    parameters: int
    pass_seconds: float
    query_seconds: float
    answer_seconds: float
    phases: dict[str, float]

    @property
    def passes(self) -> float:
        """The query in forward passes."""
        return self.query_seconds / self.pass_seconds


def measure_cost(audit: TracingAudit, prompt: str, completion: str, methods: Sequence[TraceMethod]) -> list[CostFigure]:
    """Return the cost of a warm query by each method; everything a method needs is made before the clock starts."""
    place, model = audit.place, audit.model
    asked = [prompt_of(model, prompt, completion)]
    words = joined(prompt, completion)
    passes = [_plain_pass(audit) for _ in range(REPEATS)]
    found = []
    for method in methods:
        score_texts(place, method, asked, words)
        seconds, scored = [], None
        for _ in range(REPEATS):
            started = time.perf_counter()
            scored = score_texts(place, method, asked, words)
            seconds.append(time.perf_counter() - started)
        assert scored is not None
        found.append(
            CostFigure(
                method.name,
                method.shortlist,
                len(audit.ids),
                sum(place.pieces.lengths),
                sum(value.numel() for value in model.module.parameters()),
                statistics.median(passes),
                statistics.median(seconds),
                _answered(audit, prompt, method),
                scored.seconds,
            )
        )
    return found


def _answered(audit: TracingAudit, prompt: str, method: TraceMethod) -> float:
    """Return how long a new question takes from the prompt to the stored answer; each repeat asks about other words."""
    seconds = []
    for number in range(REPEATS):
        started = time.perf_counter()
        audit.trace(audit.question(audit.say(prompt, f"word {time.time_ns()} {number}")), method)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


@torch.inference_mode()
def _plain_pass(audit: TracingAudit) -> float:
    place, model = audit.place, audit.model
    started = time.perf_counter()
    for positions in place.batches:
        batch = place.batch(positions)
        model.objective.losses(model.objective.outputs(model.module, batch), batch)
    return time.perf_counter() - started
