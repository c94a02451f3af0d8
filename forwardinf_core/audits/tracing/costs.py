"""What tracing a language model will cost: a dry run of a few texts, and how many passes each kind of work takes.

How many passes work takes was measured on the demo (3,486 texts, 34,299 tokens), in processor time of one thread:
docs/jobs.md. A test holds the whole to a factor of 3.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch

from forwardinf_core.audits.costs import FLOAT_BYTES, PROGRAM_BYTES, SCORE_BYTES, START_S
from forwardinf_core.audits.dry_run import DryRun
from forwardinf_core.audits.tracing.audit import TracingAudit
from forwardinf_core.audits.tracing.memorization import TextMemorizationOptions
from forwardinf_core.audits.tracing.methods import TraceMethod
from forwardinf_core.audits.tracing.preparation import BATCH_TOKENS, GRADIENT_NUMBERS, HIDDEN_BOUND
from forwardinf_core.errors import DataError, ModelError
from forwardinf_core.influence.language_parts import LanguageScope
from forwardinf_core.influence.language_replay import entering_last_block
from forwardinf_core.influence.language_sketch import SIDE
from forwardinf_core.jobs.forecast import Forecast, judged
from forwardinf_core.models.language_text import pieces_of
from forwardinf_core.models.language_training import bounded

SAMPLE = 200  # texts, evenly spread
PASSES_OF_GRADIENTS: dict[LanguageScope, float] = {
    "linear": 10.0,
    "blocks": 8.5,
    "mlps": 7.5,
    "last-block": 5.5,
    "head": 6.5,
    "all": 8.5,
}
READS = {"ekfac": 1.5, "diagonal": 1.0}  # of the texts a curvature samples, each with gradients
PASSES_OF_BASE = 1.2
PASSES_OF_SCORING = {False: 2.7, True: 1.2}  # by one side or both, and the comparisons; True: after a long step
LOGITS_AT_ONCE = 5  # times the logits of a batch: what a forward and a backward pass keep of them


@dataclass(frozen=True, slots=True)
class Rates:
    """What a few texts showed, scaled up to the corpus; seconds are processor time of one thread."""

    texts: int
    unscored: int  # of the sample: fewer than two tokens, so nothing in them is predicted
    tokens: int
    read_seconds: float  # turning the texts into tokens
    forward_seconds: float  # one forward pass over all of them
    width: int  # numbers in a hidden state
    vocabulary: int


def dry_run_of(audit: TracingAudit) -> DryRun[Rates]:
    """Return the dry run of this model over its corpus."""
    prints = f"{audit.model.fingerprint} {audit.project.texts.fingerprint}"
    return DryRun(audit.project.audit_dir / "cost.json", prints, Rates, lambda: sampled(audit))


@torch.inference_mode()
def sampled(audit: TracingAudit) -> Rates:
    """Read a sample of the texts with the model. Raises DataError where nothing in them is predicted."""
    n_texts, targets, model = len(audit.texts), audit.project.texts.targets, audit.model
    chosen = np.unique(np.linspace(0, n_texts - 1, min(n_texts, SAMPLE)).astype(np.int64)).tolist()
    started = time.thread_time()
    pieces = pieces_of(
        model, [audit.texts[one] for one in chosen], None if targets is None else [targets[one] for one in chosen]
    )
    read_s = time.thread_time() - started
    if not len(pieces):
        raise DataError(
            "No text of the corpus has two tokens or more.", hint="Check the column that text: names in project.yaml."
        )
    batches = bounded(range(len(pieces)), pieces.lengths, BATCH_TOKENS)
    with audit.place.alone:
        hidden, outputs = entering_last_block(model.module, model.objective, pieces.batch([0]))  # warms up, too
        started = time.thread_time()
        for batch in batches:
            model.objective.outputs(model.module, pieces.batch(batch))
        forward_s = time.thread_time() - started
    factor = n_texts / len(chosen)
    return Rates(
        texts=n_texts,
        unscored=len(chosen) - len(set(pieces.document.tolist())),
        tokens=round(factor * sum(pieces.lengths)),
        read_seconds=factor * read_s,
        forward_seconds=factor * forward_s,
        width=int(hidden.shape[-1]),
        vocabulary=int(outputs.shape[-1]),
    )


def of_question(audit: TracingAudit, method: TraceMethod, rates: Rates) -> Forecast:
    """Return what an answer by a method costs, with what has to be made first."""
    share = min(1.0, method.shortlist / rates.texts) if method.shortlist else 1.0
    passes, disk = PASSES_OF_SCORING[method.is_far] * share, SCORE_BYTES * rates.texts
    gradients = PASSES_OF_GRADIENTS[method.scope]
    if not audit.place.has_base(method):
        passes += PASSES_OF_BASE
        disk += base_bytes(rates)
    if method.curvature is not None:
        is_fitted = audit.place.has_curvature(method)
        if not is_fitted:
            passes += fitting_passes(method, rates)
            disk += curvature_bytes(audit, method)
        if method.form == "relative" and not audit.place.has_own(method):
            passes += gradients
        if method.shortlist and not (is_fitted and audit.place.has_codes(method)):
            passes += gradients
            disk += code_bytes(audit, method, rates)
    return _judged(audit, method, rates, passes, disk)


def of_memorization(audit: TracingAudit, options: TextMemorizationOptions, rates: Rates) -> Forecast:
    """Return what ranking the texts by memorization costs."""
    method, passes = options.method, PASSES_OF_GRADIENTS[options.method.scope]
    passes += fitting_passes(method, rates)
    disk = curvature_bytes(audit, method) + SCORE_BYTES * rates.texts
    if not audit.place.has_base(method):
        passes += PASSES_OF_BASE
        disk += base_bytes(rates)
    return _judged(audit, method, rates, passes, disk)


def of_every(audit: TracingAudit, rates: Rates) -> dict[str, Forecast]:
    """Return what the first long work of each sort costs, by what it is called on the command line."""
    from forwardinf_core.audits.tracing.memorization import options_of

    usual = audit.method()
    return {
        f"trace --method {usual.name}": of_question(audit, usual, rates),
        "memorization": of_memorization(audit, options_of(), rates),
    }


def fitting_passes(method: TraceMethod, rates: Rates) -> float:
    """Return how many passes over the corpus the fit of a curvature takes."""
    assert method.curvature is not None
    share = min(1.0, method.fisher_texts / rates.texts)
    return share * READS[method.curvature] * PASSES_OF_GRADIENTS[method.scope]


def hidden_bytes(rates: Rates) -> int:
    """Return the size of the corpus's hidden states."""
    return FLOAT_BYTES * rates.tokens * rates.width


def base_bytes(rates: Rates) -> int:
    """Return what the first reading of the corpus leaves on disk."""
    kept = hidden_bytes(rates)
    return FLOAT_BYTES * rates.texts * (rates.width + 1) + (kept if kept <= HIDDEN_BOUND else 0)


def curvature_bytes(audit: TracingAudit, method: TraceMethod) -> int:
    """Return how large a fitted curvature is: strengths, and for EK-FAC the bases."""
    total = 0
    for matrix in audit.place.matrices(method):
        weight = audit.model.module.get_submodule(matrix.module).weight
        assert isinstance(weight, torch.Tensor)
        sides = [side for side in weight.shape if not (matrix.is_wide and side == max(weight.shape))]
        sides = [] if matrix.is_plain else sides
        total += weight.numel() + (sum(side**2 for side in sides) if method.curvature == "ekfac" else 0)
    return FLOAT_BYTES * total


def code_bytes(audit: TracingAudit, method: TraceMethod, rates: Rates) -> int:
    """Return the size of the codes of all texts, half a float each."""
    return min(rates.texts * len(audit.place.matrices(method)) * SIDE**2 * FLOAT_BYTES // 2, HIDDEN_BOUND)


def _judged(audit: TracingAudit, method: TraceMethod, rates: Rates, passes: float, disk: int) -> Forecast:
    seconds = START_S + rates.read_seconds + passes * rates.forward_seconds
    try:
        curvature = curvature_bytes(audit, method) if method.curvature else 0
    except ModelError:  # a scope this model has not: said where it is asked for
        curvature = 0
    weights = sum(value.numel() * value.element_size() for value in audit.model.module.parameters())
    memory = PROGRAM_BYTES + 3 * weights + 2 * curvature + 3 * FLOAT_BYTES * GRADIENT_NUMBERS
    memory += LOGITS_AT_ONCE * FLOAT_BYTES * BATCH_TOKENS * rates.vocabulary
    return judged(audit.folder, seconds, memory, disk)
