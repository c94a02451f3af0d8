r"""Forward passes over rows: the base pass, and the signed score of every row for every query.

score = Σ over the update's sides of weight · (loss at θ̂ + sign · δ − loss at θ̂), positive = the row helped. Both
losses come from batches of the same composition, so an unchanged model scores exactly 0 on every row. The forms:
``precise`` takes the loss change from the change of the outputs, without cancellation; ``difference``
subtracts the two losses, as the paper writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from forwardinf_core.errors import ModelError
from forwardinf_core.influence.head import HeadNetwork
from forwardinf_core.influence.network import Network, Rows
from forwardinf_core.influence.objective import Batch, Classification, Objective
from forwardinf_core.influence.scores import ScoreTable
from forwardinf_core.influence.update import SIDES, Direction, Update, moved_parameters

Form = Literal["precise", "difference"]
Report = Callable[[float, str], None]
"""Told the share of the work done, 0 to 1, and a note (empty where there is nothing to say). May raise to stop."""


@dataclass(frozen=True, slots=True, eq=False)
class BasePass:
    """Outputs (n, …) and losses (n,) of the unchanged model, and the batch size whose composition they belong to."""

    outputs: Tensor
    losses: Tensor
    batch_size: int  # smaller than asked for where memory ran out


def base_pass(network: Network, rows: Rows, batch_size: int, *, report: Report | None = None) -> BasePass:
    """Evaluate the unchanged model on every row; once per model and data set, then cached by the caller.

    When memory runs out it starts over with half the batch. Raises ModelError if a loss is not finite.
    """
    size = batch_size
    while True:
        try:
            parts = []
            for start in range(0, len(rows), size):
                batch = rows.batch(start, min(start + size, len(rows)))
                parts.append(_base_of(network, batch, start))
                _tell(report, start + size, len(rows))
            outputs, row_losses = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
            return BasePass(outputs, row_losses, size)
        except (MemoryError, RuntimeError) as error:
            size = _halved(size, error)
        _tell(report, 0, len(rows), f"Out of memory: starting over with {size} rows at a time.")


def score_batch(
    network: Network,
    batch: Batch,
    updates: Sequence[Update],
    base_outputs: Tensor | None,
    *,
    form: Form = "precise",
) -> Tensor:
    """Return the scores (n, n_queries) of the batch's rows; positive = helped, or never negative for ``absolute``.

    ``base_outputs`` are the unchanged model's on exactly this batch; None computes them here, once for all queries.
    Pure: the same arguments give the same numbers, here or on another machine. Raises ModelError if a score is not
    finite.
    """
    with torch.no_grad():
        before = network.outputs(network.parameters, batch) if base_outputs is None else base_outputs
        columns = [
            scores_of_changes(
                network.objective,
                before,
                output_changes(network, batch, update, before),
                batch,
                update.direction,
                form=form,
            )
            for update in updates
        ]
    scores = torch.stack(columns, 1)
    if not torch.isfinite(scores).all():
        query = int((~torch.isfinite(scores)).any(0).nonzero()[0])
        raise ModelError(
            f"The step on query {query + 1} of {len(updates)} breaks the model: losses after it are not finite.",
            hint="Take a shorter step (a smaller rise or learning rate) or more damping.",
        )
    return scores


def score_rows(
    network: Network,
    rows: Rows,
    updates: Sequence[Update],
    base_outputs: Tensor | None,
    *,
    batch_size: int,
    form: Form = "precise",
    report: Report | None = None,
) -> Tensor:
    """Return the scores (n, n_queries) of all rows; each batch is read once for all queries.

    ``base_outputs`` (n, …) and ``batch_size`` are those of the base pass, so that compositions agree; with None the
    unchanged model is evaluated again on each batch. When memory runs out the batch is halved for the rest, and the
    unchanged model evaluated again on the smaller batches.
    """
    parts: list[Tensor] = []
    start, size = 0, batch_size
    while start < len(rows):
        stop = min(start + size, len(rows))
        same_composition = base_outputs is not None and size == batch_size
        before = base_outputs[start:stop] if base_outputs is not None and same_composition else None
        try:
            parts.append(score_batch(network, rows.batch(start, stop), updates, before, form=form))
        except (MemoryError, RuntimeError) as error:
            size = _halved(size, error)
            _tell(report, start, len(rows), f"Out of memory: going on with {size} rows at a time.")
            continue
        start = stop
        _tell(report, start, len(rows))
    return torch.cat(parts)


def output_changes(network: Network, batch: Batch, update: Update, base_outputs: Tensor | None = None) -> list[Tensor]:
    """Return the change of the batch's outputs (n, …) on each side of the update, in the order of its SIDES.

    A head's outputs are linear in its parameters, so its change is computed directly, without a difference of outputs.
    """
    with torch.no_grad():
        if isinstance(network, HeadNetwork):
            change = network.output_change(update.changes, batch)
            return [side.sign * change for side in SIDES[update.direction]]
        before = network.outputs(network.parameters, batch) if base_outputs is None else base_outputs
        return [
            network.outputs(moved_parameters(network, update, side.sign), batch) - before
            for side in SIDES[update.direction]
        ]


def scores_of_changes(
    objective: Objective,
    base_outputs: Tensor,
    changes: Sequence[Tensor],
    batch: Batch,
    direction: Direction,
    *,
    form: Form = "precise",
) -> Tensor:
    """Return the scores (n,) of the batch's rows from the changes of their outputs, one for each side."""
    scores = torch.zeros((), device=base_outputs.device)
    for side, change in zip(SIDES[direction], changes, strict=True):
        if form == "precise":
            loss_change = objective.loss_changes(base_outputs, change, batch)
        else:
            loss_change = objective.losses(base_outputs + change, batch) - objective.losses(base_outputs, batch)
        scores = scores + side.weight * loss_change
    return scores.abs() if direction == "absolute" else scores


def candidate_scores(
    objective: Classification, base_outputs: Tensor, changes: Sequence[Tensor], direction: Direction
) -> Tensor:
    """Return the score of each row under EVERY label it could have, (n, n_classes), without another pass.

    ``changes`` are those of ``output_changes``. The column of the row's own label is its score in the precise form.
    """
    scores = torch.zeros_like(base_outputs)
    for side, change in zip(SIDES[direction], changes, strict=True):
        scores += side.weight * objective.loss_changes_all_labels(base_outputs, change)
    return scores.abs() if direction == "absolute" else scores


def score_tables(scores: Tensor, base_losses: Tensor, scope: str) -> list[ScoreTable]:
    """Return one table for each query from scores (n, n_queries) and the unchanged model's losses (n,)."""
    base = base_losses.float().cpu().numpy()
    return [ScoreTable(column.float().cpu().numpy(), base, scope) for column in scores.unbind(1)]


def _base_of(network: Network, batch: Batch, start: int) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        outputs = network.outputs(network.parameters, batch)
        row_losses = network.objective.losses(outputs, batch)
    finite = torch.isfinite(row_losses)
    if not finite.all():
        first = int((~finite).nonzero()[0])
        raise ModelError(
            f"The model's loss on row {start + first} is {float(row_losses[first])}, not a finite number.",
            hint="Check that row's input for NaN or infinite values, and the model on it. Rows count from 0.",
        )
    return outputs, row_losses


OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")


def _halved(size: int, error: MemoryError | RuntimeError) -> int:
    """Return half the batch size if the error means that memory ran out; otherwise raise it again."""
    text = str(error).lower()
    if not isinstance(error, MemoryError) and not any(phrase in text for phrase in OUT_OF_MEMORY):
        raise error
    if size == 1:
        raise ModelError(
            "There is not enough memory to run the model on a single row.",
            hint="Close other programs, use a machine with more memory, or move only the head.",
        ) from error
    return size // 2


def _tell(report: Report | None, done: int, total: int, note: str = "") -> None:
    if report is not None:
        report(min(done / max(total, 1), 1.0), note)
