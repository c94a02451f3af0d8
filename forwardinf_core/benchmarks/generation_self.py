"""Self-retrieval: a training image is asked about as if it had been generated; does its own row come first?

Draws of the query and of its row have nothing in common: seeds come from content and from id. Likeness of pixels
and of features finds the image itself by what it is, and says nothing here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forwardinf_core.audits.generation.methods import Method
from forwardinf_core.benchmarks.generation_figures import Interval, rank_of, share_interval
from forwardinf_core.benchmarks.generation_scores import Query, Report, Scene
from forwardinf_core.benchmarks.generation_sets import PictureSet

SEED = 0


@dataclass(frozen=True)
class SelfFigure:
    """How often a training image was first for itself among ``n_rows``; ranks that equal another's count after it."""

    ranking: str
    options: dict[str, str | int | float | bool | None]
    n_queries: int
    n_rows: int
    seed: int
    first: Interval
    in_first_10: float
    median_rank: float
    ranks: tuple[int, ...]


def measure_self(
    chosen: PictureSet, half: str, count: int, methods: dict[str, Method], report: Report
) -> list[SelfFigure]:
    """Return the figures for random training images: the first to report on, the next ones to choose options on."""
    order = np.random.default_rng(SEED).permutation(len(chosen.rows))
    asked = (order[:count] if half == "report" else order[count : 2 * count]).tolist()
    queries = [Query(chosen.samples[row : row + 1].clone(), int(chosen.labels[row])) for row in asked]
    scores = Scene(chosen.base, chosen.rows, chosen.folder).all_scores(queries, methods, report)
    figures = []
    for name, columns in scores.items():
        ranks = [rank_of(values, row) for values, row in zip(columns, asked, strict=True)]
        figures.append(
            SelfFigure(
                name,
                methods[name].options() if name in methods else {},
                len(asked),
                len(chosen.rows),
                SEED,
                share_interval(ranks.count(1), len(ranks)),
                float(np.mean([rank <= 10 for rank in ranks])),
                float(np.median(ranks)),
                tuple(ranks),
            )
        )
    return figures
