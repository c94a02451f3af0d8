"""From queries to score tables: one read of the rows for all queries of a group, in chunks that survive a kill."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forwardinf_core.audits.methods import Method, shortlisting
from forwardinf_core.audits.preparation import Workplace
from forwardinf_core.audits.scopes import BATCH, BLOCK, Scope
from forwardinf_core.influence.combining import ChosenRows, average_tables, shortlist_positions
from forwardinf_core.influence.head import HeadNetwork
from forwardinf_core.influence.network import FullNetwork, RestrictedNetwork, Rows, slices
from forwardinf_core.influence.objective import Batch
from forwardinf_core.influence.released import released_update
from forwardinf_core.influence.scores import ScoreTable
from forwardinf_core.influence.scoring import output_changes, score_batch, scores_of_changes
from forwardinf_core.influence.step import take_steps
from forwardinf_core.influence.update import SIDES, Direction, ReleasedOptions, StepOptions, Update
from forwardinf_core.store.chunks import digest_of
from forwardinf_core.store.files import sha256

HEAD_BATCH = 5_000  # rows


@dataclass
class Clock:
    """Seconds by phase."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


@dataclass(frozen=True, eq=False)
class Scored:
    """One query's scores, the update they come from, and the change of every row's outputs on each of its sides."""

    table: ScoreTable
    direction: Direction
    loss_before: float
    loss_after: float
    rise: float
    changes: tuple[Tensor, ...]  # each (n_train, n_outputs)


@dataclass(frozen=True, eq=False)
class ScoredGroup:
    """Queries scored together. ``control`` is the largest |score| of the unchanged model on ``control_rows`` rows."""

    queries: tuple[Scored, ...]
    control: float
    control_rows: int
    seconds: dict[str, float]


def score_group(place: Workplace, method: Method, queries: Sequence[Batch]) -> ScoredGroup:
    """Score all training rows for a group of queries (batches of the model's inputs). Makes what is missing first."""
    clock = Clock()
    first, second = ("head", "full") if method.scope == "cascade" else (method.scope, None)
    quick = method if second is None else shortlisting(method)
    scope, updates = _updates(place, quick, first, queries, clock)
    with clock.phase("control"):
        control, control_rows = place.context.halve_on_out_of_memory(
            partial(unchanged_control, scope), _batch_size(scope)
        )
    with clock.phase("score"):
        scores, changes = _pass_over(place, scope, updates, quick, stamp_of(place, method, queries))
    base = base_losses(place, scope)
    scored = []
    for number, update in enumerate(updates):
        table = ScoreTable(scores[:, number].float().numpy(), base, method.scope)
        sides = tuple(side[number] for side in changes)
        scored.append(Scored(table, update.direction, update.loss_before, update.loss_after, update.rise, sides))
    if second is not None:
        scored = _rescored(place, method, queries, scored, clock)
    return ScoredGroup(tuple(scored), control, control_rows, clock.seconds)


def base_losses(place: Workplace, scope: Scope) -> NDArray[np.float32]:
    """Return the loss of every training row under the unchanged model."""
    labels = torch.from_numpy(place.train.labels.copy())
    losses: NDArray[np.float32] = scope.network.objective.losses(scope.base_outputs, {"label": labels}).float().numpy()
    return losses


def unchanged_control(scope: Scope, batch_size: int) -> tuple[float, int]:
    """Return the largest |score| of the unchanged model, and the rows looked at.

    The same code that scores, with a change of zero; the first batch of rows, or all of them for the head, where that
    costs milliseconds. Anything but 0 means that the stored outputs belong to another model, or that the model does
    not repeat itself.
    """
    unchanged = Update(
        {name: torch.zeros_like(value) for name, value in scope.network.parameters.items()},
        "ascent",
        0.0,
        0.0,
        0.0,
        0.0,
        StepOptions(),
    )
    rows = len(scope.rows) if isinstance(scope.network, HeadNetwork) else min(BATCH, len(scope.rows))
    scores = []
    for start, stop in slices(rows, batch_size):
        batch = scope.rows.batch(start, stop)
        scores.append(score_batch(scope.network, batch, [unchanged], base_outputs(scope, batch, start, stop)))
    return float(torch.cat(scores).abs().max()), rows


def _updates(
    place: Workplace, method: Method, name: str, queries: Sequence[Batch], clock: Clock
) -> tuple[Scope, list[Update]]:
    """Open a scope, fit its curvature where that is missing, and take the step on every query."""
    with clock.phase("cache"):
        scope = place.scope(name)
    if method.parameters is not None:
        patterns = [pattern.strip() for pattern in method.parameters.split(",")]
        scope = replace(scope, network=RestrictedNetwork(scope.network, patterns))
    with clock.phase("curvature"):
        curvature = place.curvature(scope, method)
    with clock.phase("step"):
        if method.step == "released":
            assert isinstance(scope.network, FullNetwork)
            options = ReleasedOptions(learning_rate=method.learning_rate or 0.0, seed=method.seed)
            return scope, [released_update(scope.network, query, options) for query in queries]
        embedded = [scope.embed(query) for query in queries]
        return scope, take_steps(scope.network, embedded, step_options(method), curvature)


def step_options(method: Method) -> StepOptions:
    """Return the engine's step options of a method."""
    kind = method.step if method.step in ("sgd", "adam") else "curvature"
    return StepOptions(
        method=kind,
        direction=method.direction,
        steps=method.steps,
        learning_rate=1.0 if method.learning_rate is None else method.learning_rate,
        rise=method.rise,
        damping=method.damping,
    )


def stamp_of(place: Workplace, method: Method, queries: Sequence[Batch]) -> str:
    """Return a short text that differs wherever the model, the method or the queries of a pass do."""
    digests = [digest_of({name: value.contiguous() for name, value in query.items()}) for query in queries]
    return sha256(" ".join([place.model.fingerprint, repr(method), *digests]).encode())[:16]


def _pass_over(
    place: Workplace, scope: Scope, updates: Sequence[Update], method: Method, stamp: str
) -> tuple[Tensor, list[Tensor]]:
    """Return scores (n, n_queries) and, for each side of the updates, the changes (n_queries, n, n_outputs).

    ``stamp`` names the chunks of this pass: a job makes several, of other queries or of other checkpoints.
    """
    parts = []
    for start, stop in slices(len(scope.rows), max(BLOCK, _batch_size(scope))):
        key = f"{scope.name}-{stamp}-{start:010d}"
        found = place.context.chunks.get(key) if scope.name == "full" else None
        if found is None:
            work = partial(_block, scope, updates, method, start, stop)
            found = place.context.halve_on_out_of_memory(work, _batch_size(scope))
            if scope.name == "full":  # a block of another scope takes less time than keeping it
                place.context.chunks.put(key, found)
        parts.append(found)
        place.context.report(stop, len(scope.rows), "Scoring the training rows")
    n_sides = len(SIDES[updates[0].direction])
    changes = [torch.cat([part[f"change{side}"] for part in parts], 1) for side in range(n_sides)]
    return torch.cat([part["score"] for part in parts]), changes


def _batch_size(scope: Scope) -> int:
    """Return the rows of one batch; the head's outputs do not depend on it, and large batches are faster there."""
    return HEAD_BATCH if isinstance(scope.network, HeadNetwork) else BATCH


@torch.no_grad()
def base_outputs(scope: Scope, batch: Batch, start: int, stop: int) -> Tensor:
    """Return the unchanged model's outputs of rows start … stop − 1, as a batch of exactly these rows gives them.

    They are read from the cache where they were made so. Where memory ran out, then or now, the batches were of another
    size and may differ in their last bits: then they are made anew, so that an unchanged model still scores exactly 0.
    """
    if isinstance(scope.network, HeadNetwork) or bool((scope.batch_rows[start:stop] == stop - start).all()):
        return scope.base_outputs[start:stop]
    return scope.network.outputs(scope.network.parameters, batch)


def _block(
    scope: Scope, updates: Sequence[Update], method: Method, start: int, stop: int, batch_size: int
) -> dict[str, Tensor]:
    """Score one block of rows for all queries."""
    scores, changes = [], []
    for first, last in slices(stop - start, batch_size):
        batch = scope.rows.batch(start + first, start + last)
        base = base_outputs(scope, batch, start + first, start + last)
        found = _scored(scope, batch, base, updates, method)
        scores.append(found[0])
        changes.append(found[1])
    sides = [torch.cat([part[side] for part in changes], 1) for side in range(len(changes[0]))]
    return {"score": torch.cat(scores)} | {f"change{side}": value for side, value in enumerate(sides)}


def _scored(
    scope: Scope, batch: Batch, base: Tensor, updates: Sequence[Update], method: Method
) -> tuple[Tensor, list[Tensor]]:
    """Return scores (n, n_queries) and for each side the changes (n_queries, n, n_outputs) of one batch."""
    columns, by_query = [], []
    for update in updates:
        changes = output_changes(scope.network, batch, update, base)
        columns.append(
            scores_of_changes(scope.network.objective, base, changes, batch, update.direction, form=method.form)
        )
        by_query.append(changes)
    return torch.stack(columns, 1), [torch.stack(side) for side in zip(*by_query, strict=True)]


def _rescored(
    place: Workplace, method: Method, queries: Sequence[Batch], scored: list[Scored], clock: Clock
) -> list[Scored]:
    """Return the head's tables with the whole network's scores of each query's own shortlist beside them."""
    scope, updates = _updates(place, method, "full", queries, clock)
    result = []
    with clock.phase("score"):
        for number, (one, update) in enumerate(zip(scored, updates, strict=True)):
            positions = shortlist_positions(one.table.score, method.shortlist)
            chosen = ChosenRows(scope.rows, positions)
            work = partial(_fresh_scores, scope, chosen, update, method)
            full = np.full(len(one.table.score), np.nan, dtype=np.float32)
            full[positions] = place.context.halve_on_out_of_memory(work, BATCH).numpy()
            result.append(replace(one, table=ScoreTable(one.table.score, one.table.base_loss, "cascade", full)))
            place.context.report(number + 1, len(scored), "Re-scoring the shortlists")
    return result


def _fresh_scores(scope: Scope, rows: Rows, update: Update, method: Method, batch_size: int) -> Tensor:
    """Score some rows (n,), the unchanged model evaluated on the same batches."""
    parts = [
        score_batch(scope.network, rows.batch(start, stop), [update], None, form=method.form)
        for start, stop in slices(len(rows), batch_size)
    ]
    return torch.cat(parts)[:, 0].float()


def averaged(groups: Sequence[ScoredGroup]) -> ScoredGroup:
    """Return one group of the same queries with tables averaged over models; output changes are not kept.

    Losses, rise and control are the mean and the worst over the models; seconds add up.
    """
    seconds: dict[str, float] = {}
    for group in groups:
        for name, value in group.seconds.items():
            seconds[name] = seconds.get(name, 0.0) + value
    queries = []
    for same in zip(*(group.queries for group in groups), strict=True):
        before, after, rise = (
            float(np.mean([getattr(one, name) for one in same])) for name in ("loss_before", "loss_after", "rise")
        )
        table = average_tables([one.table for one in same])
        queries.append(Scored(table, same[0].direction, before, after, rise, ()))
    return ScoredGroup(tuple(queries), max(g.control for g in groups), groups[0].control_rows, seconds)
