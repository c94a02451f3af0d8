"""How far reviewers agree: Cohen's kappa of their independent verdicts on the rows that both judged."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

from forwardinf_core.audits.decisions import Ledger, meaning


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two reviewers on the rows that both judged on their own.

    ``kappa`` is 1 for full agreement and 0 for what chance would give; None where it is not defined: fewer than two
    rows, or both gave the one same verdict throughout.
    """

    first: str
    second: str
    rows: int
    same: int
    kappa: float | None


def agreements(ledger: Ledger) -> list[Agreement]:
    """Return one entry for each two reviewers with a row in common. Verdicts that settle are left out."""
    found = []
    for first, second in combinations(ledger.reviewers(), 2):
        one, other = ledger.independent(first), ledger.independent(second)
        shared = [row for row in one if row in other]
        if shared:
            pairs = [(meaning(one[row]), meaning(other[row])) for row in shared]
            same = sum(mine == theirs for mine, theirs in pairs)
            found.append(Agreement(first, second, len(shared), same, kappa_of(pairs)))
    return found


def kappa_of(pairs: list[tuple[str, str]]) -> float | None:
    """Return Cohen's kappa of pairs of verdicts, or None where it is not defined."""
    if len(pairs) < 2 or len({verdict for pair in pairs for verdict in pair}) == 1:
        return None
    from sklearn.metrics import cohen_kappa_score

    return float(cohen_kappa_score([mine for mine, _ in pairs], [theirs for _, theirs in pairs]))
