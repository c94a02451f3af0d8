"""Which training texts, and which of their tokens, does a language model know only because it saw them?

A text's score is its influence on itself, G · (F + λI)⁻¹ G, by token that counts, with G and F of the tokens' log-odds:
how much room the model has to move the text's tokens through the text alone. Gradients of the loss vanish once a text
is learned, by heart or not, and rank texts half as well (docs/leakage.md). Which tokens carry it is asked of one text
at a time: a mirrored step on the text, and the change of each of its tokens' losses.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from forwardinf_core.audits.tracing.audit import TracingAudit
from forwardinf_core.audits.tracing.lexical import likeness
from forwardinf_core.audits.tracing.methods import TraceMethod, trace_method
from forwardinf_core.audits.tracing.opening import load_tracing
from forwardinf_core.audits.tracing.records import TokenShare
from forwardinf_core.audits.tracing.scoring import own_token_shares
from forwardinf_core.errors import AuditError, DataError
from forwardinf_core.jobs import run as jobs
from forwardinf_core.jobs.context import JobContext
from forwardinf_core.jobs.registry import job
from forwardinf_core.store.binding import Binding, Option
from forwardinf_core.store.files import write_bytes
from forwardinf_core.store.runs import RunRecord, find_run, list_runs, run_id, save_run

KIND = "memorization-texts"
VERSION = 2  # rises when the same options would give other scores
DEFAULT = "blocks-ekfac"  # what its figures were measured with: docs/leakage.md
FEWEST_TEXTS = 20

Report = Callable[[float, str], None]


@dataclass(frozen=True)
class TextMemorizationOptions:
    """Which weights a text's influence on itself goes through, and how."""

    method: TraceMethod


@dataclass(frozen=True, eq=False)
class MemorizedTexts:
    """A finished audit of n training texts, in their order.

    ``score`` (n,): self-influence a token, never negative, comparable within one run only; higher = the model leans
    more on the text itself. ``loss`` (n,): mean loss a token under the model. ``tokens`` (n,): tokens that count; a
    text without one has score 0 and no loss (NaN).
    """

    run_id: str
    ids: tuple[str, ...]
    score: NDArray[np.float64]
    loss: NDArray[np.float64]
    tokens: NDArray[np.int64]
    options: dict[str, Option]
    seconds: dict[str, float]

    @property
    def percentile(self) -> NDArray[np.float64]:
        """Share of texts with a lower score, 0 to 100; ties share their middle."""
        ranks: NDArray[np.float64] = 100 * (rankdata(self.score) - 0.5) / max(len(self.score), 1)
        return ranks

    @property
    def chance(self) -> NDArray[np.float64]:
        """The probability the model gives a token of the text, geometric mean; NaN where no token counts."""
        found: NDArray[np.float64] = np.exp(-self.loss)
        return found

    def ranked(self) -> NDArray[np.int64]:
        """Return the positions of the texts, the most memorized first."""
        found: NDArray[np.int64] = np.argsort(-self.score, kind="stable").astype(np.int64)
        return found


def options_of(name: str | None = None) -> TextMemorizationOptions:
    """Return the options of a way of tracing. Raises AuditError where it has no curvature, or there is none such."""
    method = trace_method(name or DEFAULT)
    if method.curvature is None:
        raise AuditError(
            f"Memorization needs a curvature, and {method.name} takes none.",
            hint="Use a step through ekfac or diagonal, such as blocks-ekfac or last-block-ekfac.",
        )
    return TextMemorizationOptions(method)


def binding(audit: TracingAudit, options: TextMemorizationOptions) -> Binding:
    """Return what a run is made from."""
    method = {name: value for name, value in asdict(options.method).items() if name in ("scope", "step", "damping")}
    prints = {"model": audit.model.fingerprint, "texts": audit.project.texts.fingerprint}
    return Binding(KIND, prints, {**method, "fisher_texts": options.method.fisher_texts}, VERSION)


def fingerprints_of(project: Path, _options: object) -> dict[str, str]:
    """Return what the job reads."""
    return dict(binding(load_tracing(project), options_of()).fingerprints)


@job(KIND, version=VERSION, fingerprints=fingerprints_of)
def score_texts(context: JobContext, options: TextMemorizationOptions) -> dict[str, Option]:
    """Score every training text by its influence on itself."""
    audit = load_tracing(context.project)
    key = binding(audit, options).key()
    record = find_run(audit.project, KIND, key)
    if record is None:
        check_texts(audit)
        start = time.perf_counter()
        place, method = audit.place, options.method
        losses = place.base(lambda share, note: context.report(0.3 * share, 1.0, note))[0]
        own = place.own(method, lambda share, note: context.report(0.3 + 0.7 * share, 1.0, note), of_odds=True)
        counted = place.pieces.counted
        with np.errstate(invalid="ignore", divide="ignore"):
            frame = pd.DataFrame(
                {
                    "id": list(audit.ids),
                    "score": own.double().numpy() / np.maximum(counted, 1),
                    "loss": losses.double().numpy() / counted,
                    "tokens": counted,
                }
            )
        summary: dict[str, Option] = {"seconds": {"score": time.perf_counter() - start}}
        chosen = cast("dict[str, Option]", dict(binding(audit, options).options))
        record = save_run(audit.project, KIND, key, options=chosen, summary=summary, frames={"texts": frame})
    return {"run": record.id}


def check_texts(audit: TracingAudit) -> None:
    """Raise DataError, in a sentence, where the question has no answer."""
    if len(audit.ids) < FEWEST_TEXTS:
        raise DataError(
            f"There are {len(audit.ids)} training texts, too few to compare their memorization.",
            hint=f"The memorization audit needs at least {FEWEST_TEXTS}.",
        )
    if len(set(audit.texts)) == 1:
        raise DataError(
            "All training texts are the same, so no text is known by itself.",
            hint="Check the column that text: in project.yaml names.",
        )
    if not audit.place.pieces.counted.any():
        raise DataError(
            "No training text has two tokens, so nothing in them is predicted.",
            hint="Check the column that text: in project.yaml names.",
        )


def run(
    audit: TracingAudit, options: TextMemorizationOptions | None = None, report: Report | None = None
) -> MemorizedTexts:
    """Return the finished audit; run here and now where it is not stored."""
    chosen = options or options_of()
    if stored(audit, chosen) is None:

        def on_report(done: float, total: float, note: str) -> None:
            if report is not None:
                report(done / total if total else 0.0, note)

        jobs.run_here(KIND, audit.folder, chosen, on_report)
    found = find(audit, chosen)
    assert found is not None
    return found


def start(audit: TracingAudit) -> str:
    """Queue the audit for the worker; return the id of the job."""
    return str(jobs.submit(KIND, audit.folder, options_of()))


def stored(audit: TracingAudit, options: TextMemorizationOptions) -> RunRecord | None:
    """Return the finished run, or None."""
    return find_run(audit.project, KIND, binding(audit, options).key())


def finished(audit: TracingAudit) -> str | None:
    """Return the id of the finished run, or None; reads no table."""
    own = run_id(KIND, binding(audit, options_of()).key())
    return own if any(record.id == own for record in list_runs(audit.project, KIND)) else None


def find(audit: TracingAudit, options: TextMemorizationOptions | None = None) -> MemorizedTexts | None:
    """Return the finished audit of this model and these texts, or None."""
    record = stored(audit, options or options_of())
    if record is None:
        return None
    frame = record.frame("texts")
    return MemorizedTexts(
        run_id=record.id,
        ids=tuple(frame["id"]),
        score=frame["score"].to_numpy(np.float64),
        loss=frame["loss"].to_numpy(np.float64),
        tokens=frame["tokens"].to_numpy(np.int64),
        options=record.options,
        seconds=cast("dict[str, float]", record.summary["seconds"]),
    )


def memorized_tokens(audit: TracingAudit, position: int) -> tuple[TokenShare, ...]:
    """Return the tokens of a text: positive = the model would lose this token if it unlearned the text."""
    with audit.place.alone:
        return own_token_shares(audit.place, options_of().method, position)


def sentence_of(found: MemorizedTexts, position: int) -> str:
    """Return what is known of a text in a sentence; always an estimate: nothing was retrained."""
    if not found.tokens[position]:
        return "Nothing in this text is predicted from something before it, so there is nothing to know by heart."
    above = np.floor(10 * found.percentile[position]) / 10  # never "more than 100%"
    return (
        f"Estimate: for each of its words the model leans on this very text, more than on {above:.1f}% of the texts "
        "for theirs. How much it would lose without the text is known only after retraining."
    )


def write_scores(found: MemorizedTexts, path: Path) -> None:
    """Write id and score of every training text, higher = more memorized, as parquet."""
    write_bytes(path, pd.DataFrame({"id": list(found.ids), "score": found.score}).to_parquet(index=False))


def nearest(audit: TracingAudit, position: int, count: int) -> tuple[tuple[int, float], ...]:
    """Return the positions of the other texts most alike by mean hidden state, and their cosines, the nearest first."""
    embeddings = audit.place.base()[1].numpy()
    alike = likeness(embeddings, embeddings[position])
    alike[position] = -np.inf
    order = np.argsort(-alike, kind="stable")[: min(count, len(alike) - 1)]
    return tuple((int(other), float(alike[other])) for other in order)
