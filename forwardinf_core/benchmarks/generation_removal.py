"""Does it hold? Retrain without the rows that a ranking puts first, and see what becomes of the picture.

For every picture the first rows of each ranking are left out and the same recipe is trained from scratch, with seeds
that the traced model did not have. What is told is against a network of the same seed trained on all rows: the rise of
the picture's loss over fixed draws, and how far what is painted from the picture's noise has changed. Random rows are
drawn three times, for all pictures together, and once from the picture's own class: what being of that class is worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forwardinf_core.audits.generation.methods import DEFAULT, Method
from forwardinf_core.benchmarks.generation_figures import Floats, Interval, mean_interval, squared_error, ssim
from forwardinf_core.benchmarks.generation_retraining import Judgement, Pictures
from forwardinf_core.benchmarks.generation_scores import RANDOM, Report
from forwardinf_core.errors import ModelError
from forwardinf_core.verification.retraining import Task

CLASS = "random of the class"
RANDOM_SETS = 3
FIRST_SEED = 1  # the traced model has 0
Positions = NDArray[np.int64]


@dataclass(frozen=True)
class RemovalFigure:
    """What leaving out a ranking's first rows does to the pictures; intervals over pictures, by the bootstrap.

    ``rise`` of the picture's loss, also as a share of ``loss``, that of a network trained on all rows. ``mse`` and
    ``ssim`` compare what both networks paint. ``beyond_default`` is the default's rise minus this one's, by picture.
    """

    ranking: str
    options: dict[str, str | int | float | bool | None]
    n_queries: int
    n_seeds: int
    n_rows: int
    n_removed: int
    loss: float
    rise: Interval
    relative: Interval
    mse: Interval
    ssim: Interval
    beyond_default: Interval | None
    by_query: tuple[float, ...]


def removals(
    pictures: Pictures, numbers: Sequence[int], methods: dict[str, Method], share: float, report: Report
) -> dict[str, list[list[Positions]]]:
    """Return, by ranking, for each picture the sets of rows to leave out; the random ones have several sets."""
    n_rows = len(pictures.chosen.rows)
    count = max(round(share * n_rows), 1)
    scores = pictures.scene.all_scores([pictures.query(number) for number in numbers], methods, report)
    labels = pictures.chosen.rows.labels
    found: dict[str, list[list[Positions]]] = {
        RANDOM: [[_drawn(np.arange(n_rows), count, draw) for draw in range(RANDOM_SETS)] for _ in numbers],
        CLASS: [
            [_drawn(np.flatnonzero(labels == int(pictures.watched.labels[number])), count, number)]
            for number in numbers
        ],
    }
    for name, columns in scores.items():
        if name != RANDOM:
            found[name] = [[np.argsort(-values, kind="stable")[:count].astype(np.int64)] for values in columns]
    return found


def tasks_of(n_rows: int, removed: dict[str, list[list[Positions]]], seeds: Sequence[int]) -> list[Task]:
    """Return every training that is needed, each once: on all rows, and without each set of rows."""
    dropped = [np.zeros(0, np.int64), *(rows for sets in removed.values() for each in sets for rows in each)]
    tasks = [Task.without(n_rows, rows, seed) for rows in dropped for seed in seeds]
    return list({task.key: task for task in tasks}.values())


def measure_removal(
    pictures: Pictures,
    numbers: Sequence[int],
    methods: dict[str, Method],
    *,
    share: float,
    seeds: int,
    workers: int,
    report: Report,
) -> list[RemovalFigure]:
    """Return what removal by every ranking does. Cost: a training for each ranking, picture and seed."""
    n_rows, all_seeds = len(pictures.chosen.rows), range(FIRST_SEED, FIRST_SEED + seeds)
    removed = removals(pictures, numbers, methods, share, lambda done, note: report(0.1 * done, note))
    tasks = tasks_of(n_rows, removed, all_seeds)
    judged = pictures.retrained(tasks, workers, lambda done, note: report(0.1 + 0.9 * done, note))
    if any(not np.isfinite(one.losses).all() for one in judged):
        raise ModelError("A retraining failed: its loss is not a number.", hint="Lower the recipe's learning rate.")
    by_key = {task.key: one for task, one in zip(tasks, judged, strict=True)}

    def judgement(rows: Positions, seed: int) -> Judgement:
        return by_key[Task.without(n_rows, rows, seed).key]

    full = [judgement(np.zeros(0, np.int64), seed) for seed in all_seeds]
    tables = {
        name: np.array(
            [
                np.mean(
                    [
                        compared(full[at], judgement(rows, seed), number)
                        for at, seed in enumerate(all_seeds)
                        for rows in sets
                    ],
                    axis=0,
                )
                for number, sets in zip(numbers, by_picture, strict=True)
            ]
        )
        for name, by_picture in removed.items()
    }
    default = next((table[:, 0] for name, table in tables.items() if name == DEFAULT), None)
    n_removed = len(removed[RANDOM][0][0])
    return [
        RemovalFigure(
            name,
            methods[name].options() if name in methods else {},
            len(numbers),
            seeds,
            n_rows,
            n_removed,
            float(np.mean([one.losses[list(numbers)] for one in full])),
            mean_interval(table[:, 0]),
            mean_interval(table[:, 1]),
            mean_interval(table[:, 2]),
            mean_interval(table[:, 3]),
            None if default is None or name == DEFAULT else mean_interval(default - table[:, 0]),
            tuple(table[:, 0].tolist()),
        )
        for name, table in tables.items()
    ]


def compared(full: Judgement, without: Judgement, number: int) -> Floats:
    """Return rise of the loss, the rise as a share of it, squared error and SSIM of the paintings, (4,)."""
    before, after = full.losses[number], without.losses[number]
    pair = full.paintings[number], without.paintings[number]
    return np.array([after - before, after / before - 1, squared_error(*pair), ssim(*pair)])


def _drawn(rows: NDArray[np.int64], count: int, draw: int) -> Positions:
    return np.sort(np.random.default_rng([draw, len(rows)]).permutation(rows)[:count]).astype(np.int64)
