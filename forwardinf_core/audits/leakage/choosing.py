"""Which pairs a screen shows, in which order, and which comes after the one just decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.decisions import Row
from forwardinf_core.audits.leakage.deciding import choice_of
from forwardinf_core.audits.leakage.records import NONE, VERDICTS, Leakage, Pair
from forwardinf_core.store.decisions import Decision

COPIES = "copies"
"""As a ``verdict``: every pair that is a copy of some kind."""


@dataclass(frozen=True, slots=True)
class Choosing:
    """``verdict``: one of VERDICTS, or COPIES. ``labels``: one of a pair's, or all. ``is_open``: undecided only."""

    verdict: str = COPIES
    labels: str = ""
    is_open: bool = False


def chosen_pairs(audit: Audit, found: Leakage, choosing: Choosing, decided: Mapping[Row, Decision]) -> tuple[Pair, ...]:
    """Return the pairs a person asked for, the surest first."""
    pairs = [pair for pair in found.pairs if _fits(pair, choosing)]
    if choosing.is_open:
        pairs = [pair for pair in pairs if choice_of(audit, pair, decided) is None]
    return tuple(sorted(pairs, key=lambda pair: (-pair.score, VERDICTS.index(pair.verdict), pair.query)))


def next_open(audit: Audit, pairs: tuple[Pair, ...], query: str, decided: Mapping[Row, Decision]) -> str:
    """Return the next undecided pair after one, else the first undecided, else the same."""
    order = [pair.query for pair in pairs]
    at = order.index(query) if query in order else -1
    for pair in (*pairs[at + 1 :], *pairs[: max(at, 0)]):
        if pair.query != query and choice_of(audit, pair, decided) is None:
            return pair.query
    return query


def _fits(pair: Pair, choosing: Choosing) -> bool:
    of_verdict = pair.verdict != NONE if choosing.verdict == COPIES else pair.verdict == choosing.verdict
    return of_verdict and choosing.labels in ("", pair.labels)
