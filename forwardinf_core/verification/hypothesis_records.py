"""What a verification of the hypothesis is asked and what it found: frozen records, as the screen reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import pandas as pd

from forwardinf_core.store.binding import Option
from forwardinf_core.store.runs import RunRecord
from forwardinf_core.verification.convex import N_EACH

POINTS, QUERIES = "points", "queries"

Part = Literal["convex", "network"]


@dataclass(frozen=True)
class HypothesisOptions:
    """Which part, on how many rows; None takes what the paper took, or as many as there are.

    ``each``: queries of highest loss, and as many at random (convex). ``share`` of wrong labels, ``seeds`` retrainings
    and ``epochs`` are of the network.
    """

    part: Part = "convex"
    rows: int | None = None
    each: int = N_EACH
    share: float = 0.5
    seeds: int = 5
    epochs: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Hypothesis:
    """A finished verification. Correlations are means over the queries (convex) or over the groups (network).

    ``points``: one line a row and query, or a group: ``train_to_test``, ``mirrored`` and a column for each estimate.
    ``estimates``: name → (Pearson, Spearman) against ``train_to_test``.
    """

    run_id: str
    part: Part
    pearson: float
    spearman: float
    interval: tuple[float, float]  # 95%, of the Pearson correlation
    n_rows: int
    n_queries: int
    estimates: dict[str, tuple[float, float]]
    by_kind: dict[str, tuple[float, float]]  # convex: highest-loss and random queries apart
    repeatability: tuple[float, ...]  # network, two seeds or more: leaving groups out, mirrored
    failed: tuple[str, ...]
    options: dict[str, Option]
    seconds: float
    points: pd.DataFrame
    queries: pd.DataFrame  # convex: one line a query with its correlations


def opened(record: RunRecord) -> Hypothesis:
    """Return a stored run as a result."""
    said = record.summary
    interval = cast("list[float]", said["interval"])

    def pairs(name: str) -> dict[str, tuple[float, float]]:
        return {key: (value[0], value[1]) for key, value in cast("dict[str, list[float]]", said[name]).items()}

    return Hypothesis(
        record.id,
        cast("Part", record.options["part"]),
        cast("float", said["pearson"]),
        cast("float", said["spearman"]),
        (interval[0], interval[1]),
        cast("int", said["n_rows"]),
        cast("int", said["n_queries"]),
        pairs("estimates"),
        pairs("by_kind"),
        tuple(cast("list[float]", said.get("repeatability", ()))),
        tuple(cast("list[str]", said["failed"])),
        record.options,
        cast("float", said["seconds"]),
        record.frame(POINTS),
        record.frame(QUERIES),
    )
