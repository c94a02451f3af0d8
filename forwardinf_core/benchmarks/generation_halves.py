"""An inexpensive truth to choose options on: networks trained on random halves of the rows judge all pictures at once.

The figure is the linear datamodelling score (``verification.lds``): over halves, the rank correlation of summed scores
with the picture's loss, turned round. Pictures to choose on and pictures to report on are judged by the same networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from forwardinf_core.audits.generation.methods import Method
from forwardinf_core.benchmarks.generation_figures import Interval
from forwardinf_core.benchmarks.generation_retraining import Pictures
from forwardinf_core.benchmarks.generation_scores import Report
from forwardinf_core.verification.lds import Truth, linear_datamodelling_score
from forwardinf_core.verification.retraining import Task, half_subsets

SUBSET_SEED = 11
FIRST_SEED = 10_000  # of the networks on halves; each has its own


@dataclass(frozen=True)
class HalvesFigure:
    """How well a ranking's sums predict the losses of networks on halves; the interval is over halves and pictures."""

    ranking: str
    options: dict[str, str | int | float | bool | None]
    n_queries: int
    n_halves: int
    lds: Interval


def measure_halves(
    pictures: Pictures,
    numbers: Sequence[int],
    methods: dict[str, Method],
    *,
    halves: int,
    workers: int,
    report: Report,
) -> list[HalvesFigure]:
    """Return the score of every ranking. Cost: a training on half of the rows for each half."""
    subsets = half_subsets(len(pictures.chosen.rows), halves, SUBSET_SEED)
    tasks = [Task(subset, FIRST_SEED + number) for number, subset in enumerate(subsets)]
    judged = pictures.retrained(tasks, workers, lambda done, note: report(0.7 * done, note))
    truth = Truth.of(subsets, -np.stack([one.losses for one in judged])[None]).of_queries(list(numbers))
    queries = [pictures.query(number) for number in numbers]
    scores = pictures.scene.all_scores(queries, methods, lambda done, note: report(0.7 + 0.3 * done, note))
    figures = []
    for name, columns in scores.items():
        found = linear_datamodelling_score(np.stack(columns), truth)
        options = methods[name].options() if name in methods else {}
        interval = Interval(found.lds, found.low, found.high)
        figures.append(HalvesFigure(name, options, len(numbers), len(truth.subsets), interval))
    return figures
