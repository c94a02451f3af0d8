"""What an answer costs, in plain passes of the same model over the same draws, measured in turn; and peak memory."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from forwardinf_core.audits.generation.methods import Method
from forwardinf_core.audits.generation.place import BATCH
from forwardinf_core.audits.generation.tracing import similarities
from forwardinf_core.benchmarks.engine import timed
from forwardinf_core.benchmarks.generation_retraining import Pictures
from forwardinf_core.benchmarks.generation_scores import Query, Scene
from forwardinf_core.benchmarks.generation_sets import PictureSet
from forwardinf_core.influence.diffusion import Draws
from forwardinf_core.influence.network import slices
from forwardinf_core.jobs.memory import peak_bytes, reset_peak

PAIRS = 3


@dataclass(frozen=True)
class CostFigure:
    """Answers in plain passes: ``first`` from nothing on disk, ``further`` with caches and curvature there.

    Medians over pairs of one plain pass and one answer. ``peak_mib`` is all that the process held while it answered,
    PyTorch included.
    """

    ranking: str
    options: dict[str, str | int | float | bool | None]
    n_rows: int
    n_draws: int
    parameters: int
    pass_seconds: float
    first: float
    further: float
    peak_mib: float


def measure_cost(chosen: PictureSet, methods: dict[str, Method]) -> list[CostFigure]:
    """Return the cost of every method, on pictures of the base model. Every answer is about another picture."""
    pictures = Pictures(chosen)
    queries = [pictures.query(number) for number in range(2 * PAIRS + 1)]
    return [_cost(chosen, name, method, queries) for name, method in methods.items()]


def _cost(chosen: PictureSet, name: str, method: Method, queries: Sequence[Query]) -> CostFigure:
    passes, first, further = [], [], []
    draws = Draws(method.draws, seed=method.seed)
    reset_peak()
    with tempfile.TemporaryDirectory() as folder:
        warm = Scene(chosen.base, chosen.rows, Path(folder) / "warm")
        warm.folder.mkdir()
        plain_pass(warm, draws)
        answer(warm, queries[-1], method)
        for pair in range(PAIRS):
            passes.append(timed(partial(plain_pass, warm, draws)))
            fresh = Scene(chosen.base, chosen.rows, Path(folder) / f"first-{pair}")
            fresh.folder.mkdir()
            first.append(timed(partial(answer, fresh, queries[pair], method)) / passes[-1])
        for pair in range(PAIRS):
            passes.append(timed(partial(plain_pass, warm, draws)))
            further.append(timed(partial(answer, warm, queries[PAIRS + pair], method)) / passes[-1])
    return CostFigure(
        name,
        method.options(),
        len(chosen.rows),
        len(chosen.rows) * draws.count,
        sum(value.numel() for value in chosen.base.module.parameters()),
        statistics.median(passes),
        statistics.median(first),
        statistics.median(further),
        peak_bytes() / 2**20,
    )


def answer(scene: Scene, query: Query, method: Method) -> None:
    """Do what the app does for an answer: likeness by pixels and features, the step, and the pass."""
    similarities(scene.place(scene.folder / "likeness"), query.sample, query.label)
    scene.traced(query, method)


@torch.no_grad()
def plain_pass(scene: Scene, draws: Draws) -> Sequence[float]:
    """Run the unchanged model over all draws of all rows and return the mean loss of each batch."""
    rows = scene.place(scene.folder / "plain").rows(draws)
    model, losses = scene.model, []
    for start, stop in slices(len(rows), BATCH):
        batch = rows.batch(start, stop)
        losses.append(float(model.objective.losses(model.objective.outputs(model.module, batch), batch).mean()))
    return losses
