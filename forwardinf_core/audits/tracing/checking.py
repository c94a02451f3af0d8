"""``check`` for language projects: all is opened, a few texts are read, and what work costs is reckoned from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from forwardinf_core.audits.tracing.costs import dry_run_of, hidden_bytes, of_every
from forwardinf_core.audits.tracing.opening import load_tracing
from forwardinf_core.jobs.forecast import Forecast


@dataclass(frozen=True)
class LanguageCheck:
    """What was found. ``pass_seconds`` and ``tokens`` are scaled up from a sample of evenly spread texts."""

    texts: int
    unscored: int  # of the sample: fewer than two tokens, so nothing in them is predicted
    tokens: int
    parameters: int
    context: int
    pass_seconds: float
    hidden_bytes: int
    costs: dict[str, Forecast]  # of the first long work of each sort
    is_ready: bool = True


def check_language(ref: str | Path) -> LanguageCheck:
    """Open a project, read a sample of its texts with its model, and say what work on it costs. Writes nothing.

    Raises ProjectError, DataError or ModelError with the first thing that is wrong.
    """
    audit = load_tracing(ref)
    rates = dry_run_of(audit).make()
    return LanguageCheck(
        texts=rates.texts,
        unscored=rates.unscored,
        tokens=rates.tokens,
        parameters=sum(value.numel() for value in audit.model.module.parameters()),
        context=audit.model.context,
        pass_seconds=rates.forward_seconds,
        hidden_bytes=hidden_bytes(rates),
        costs=of_every(audit, rates),
    )
