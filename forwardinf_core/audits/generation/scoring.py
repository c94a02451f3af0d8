"""From a generated image to one number per training image: a step on many draws of the query, one pass, further looks.

Scores are means over few draws, so the first of a ranking are also the luckiest ones. The images at both ends are
therefore looked at again, at more draws that the looks before did not have, and take their score from these.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forwardinf_core.audits.generation.methods import Method
from forwardinf_core.audits.generation.place import BATCH, BLOCK, Place
from forwardinf_core.errors import ModelError
from forwardinf_core.influence.combining import ChosenRows
from forwardinf_core.influence.diffusion import DrawRows, Draws, by_sample, normalised_skew
from forwardinf_core.influence.network import FullNetwork, Network, Rows, slices
from forwardinf_core.influence.objective import Batch
from forwardinf_core.influence.released import released_update
from forwardinf_core.influence.scoring import output_changes
from forwardinf_core.influence.step import take_steps
from forwardinf_core.influence.unlearning import mean_loss, unlearn
from forwardinf_core.influence.update import SIDES, ReleasedOptions, StepOptions, Update
from forwardinf_core.store.chunks import digest_of

HELD = 64  # draws of other training images that unlearning holds at each step


@dataclass(frozen=True, eq=False)
class Traced:
    """One query's scores. ``by_draw`` (n, draws) are the changes of the first look; NaN outside a shortlist.

    ``base_loss`` (n,) is each row's mean loss under the unchanged model over its draws; ``timesteps`` (n, draws).
    """

    score: NDArray[np.float32]
    base_loss: NDArray[np.float32]
    by_draw: NDArray[np.float32]
    timesteps: NDArray[np.float32]
    rescored: NDArray[np.bool_]
    loss_before: float
    loss_after: float
    control: float


def query_rows(place: Place, sample: Tensor, label: int | str | None, key: str, method: Method) -> Batch:
    """Return many draws of the query as one batch; its draws are seeded by its own content, not by a training id."""
    conditions = {} if label is None else place.model.conditions([label])
    draws = Draws(method.query_draws, seed=method.seed)
    return DrawRows([f"query {key}"], sample, conditions, draws, place.model.n_timesteps).batch(0, draws.count)


def make_update(place: Place, query: Batch, method: Method) -> tuple[Network, Update]:
    """Take the method's step on a query, fitting its curvature first where that is missing."""
    if method.step == "released":
        options = ReleasedOptions(learning_rate=method.learning_rate, seed=method.seed)
        return place.full, released_update(place.full, query, options)
    network = place.network(method)
    rise = method.rise * mean_loss(network, query)
    step = StepOptions(
        method="curvature" if method.step in ("ekfac", "diagonal") else "sgd" if method.step == "sgd" else "adam",
        direction=method.direction,
        steps=method.steps,
        learning_rate=1.0 if method.step in ("ekfac", "diagonal") else method.learning_rate,
        rise=rise,
        damping=method.damping,
        unsaturated=False,
    )
    if method.step == "unlearn":
        held = place.rows(Draws(1, seed=method.seed + 1))
        return network, unlearn(network, query, lambda number: _held(held, method.seed, number), step)
    return network, take_steps(network, [query], step, place.curvature(method))[0]


def _held(rows: DrawRows, seed: int, number: int) -> Batch:
    chosen = np.random.default_rng([seed, number]).permutation(len(rows))[:HELD]
    return ChosenRows(rows, np.sort(chosen).astype(np.int64)).batch(0, len(chosen))


def trace(place: Place, query: Batch, method: Method, shortlist: NDArray[np.int64] | None) -> Traced:
    """Score the training images, all of them or a shortlist (positions in ascending order)."""
    draws = Draws(method.draws, seed=method.seed)
    rows, base = place.rows(draws), place.base_outputs(draws)
    network, update = make_update(place, query, method)
    chosen: Rows = rows
    if shortlist is not None:
        chosen = _draws_of(rows, shortlist)
    stamp = f"{method.name}-{digest_of({name: value.contiguous() for name, value in query.items()})[:16]}"
    losses, changes, times = _pass_over(place, network, update, chosen, None if shortlist is not None else base, stamp)
    counted = _counted(method, losses, changes, draws)
    rescored = np.ones(len(rows.ids), dtype=bool)
    if shortlist is not None:
        rescored = np.isin(np.arange(len(rows.ids)), shortlist)
    score = _spread(_read(update, counted.mean(1)), rescored)
    for number, (share, count) in enumerate(method.looks):
        again = at_both_ends(score, share)
        if len(again):
            more = Draws(count, seed=method.seed + 2 + number)  # + 1 draws what unlearning holds
            name = f"{stamp}-again{number}"
            found = _pass_over(place, network, update, _draws_of(place.rows(more), again), None, name)
            score[again] = _read(update, _counted(method, found[0], found[1], more).mean(1)).float().numpy()
    return Traced(
        score=score,
        base_loss=_spread(by_sample(losses, draws.count).mean(1), rescored),
        by_draw=_spread(counted, rescored),
        timesteps=_spread(by_sample(times, draws.count), rescored),
        rescored=rescored,
        loss_before=update.loss_before,
        loss_after=update.loss_after,
        control=_control(place.full, rows, base),
    )


def at_both_ends(score: NDArray[np.float32], share: float) -> NDArray[np.int64]:
    """Return which images a further look is worth, ascending: a share of the scored ones at each end of the ranking."""
    order = np.argsort(score, kind="stable")[: np.isfinite(score).sum()]  # NaN is sorted to the end
    count = min(round(share * len(order)), len(order) // 2)
    return np.sort(np.concatenate([order[:count], order[len(order) - count :]])).astype(np.int64)


def _draws_of(rows: DrawRows, samples: NDArray[np.int64]) -> ChosenRows:
    """Return all draws of some images."""
    count = rows.draws.count
    return ChosenRows(rows, (samples[:, None] * count + np.arange(count)).reshape(-1))


def _read(update: Update, means: Tensor) -> Tensor:
    """Return means over draws as scores: the released recipe reads them without their sign."""
    return means.abs() if update.direction == "absolute" else means


def _counted(method: Method, losses: Tensor, changes: Tensor, draws: Draws) -> Tensor:
    """Return what counts of each draw, (n, draws): the change of the loss or its normalised skew."""
    return by_sample(normalised_skew(losses, changes) if method.form == "skew" else changes, draws.count)


def _pass_over(
    place: Place, network: Network, update: Update, rows: Rows, base: Tensor | None, stamp: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Return losses before, loss changes in the ascent sense, and timesteps of all draws, each (n · draws,).

    Without ``base`` the unchanged model is run again: batches of other rows round differently.
    """
    found: dict[str, list[Tensor]] = {"loss": [], "change": [], "t": []}
    for start, stop in slices(len(rows), BLOCK):
        key = f"pass-{stamp}-{start:010d}"
        kept = place.context.chunks.get(key)
        if kept is None:
            parts = [
                _scored(network, update, rows.batch(start + low, start + high), _of(base, start + low, start + high))
                for low, high in slices(stop - start, BATCH)
            ]
            kept = {name: torch.cat([part[name] for part in parts]) for name in found}
            if not torch.isfinite(kept["change"]).all():
                raise ModelError(
                    "The moved model's loss is not a finite number.",
                    hint="Take a shorter step (rise), or more damping.",
                )
            place.context.chunks.put(key, kept)
        for name, values in found.items():
            values.append(kept[name])
        place.context.report(stop, len(rows), "Scoring the training images")
    return torch.cat(found["loss"]), torch.cat(found["change"]), torch.cat(found["t"])


@torch.no_grad()
def _scored(network: Network, update: Update, batch: Batch, base: Tensor | None) -> dict[str, Tensor]:
    """Return loss, change of loss and timestep of the draws of one batch."""
    outputs = network.outputs(network.parameters, batch) if base is None else base
    total = torch.zeros(len(outputs))
    for side, change in zip(SIDES[update.direction], output_changes(network, batch, update, outputs), strict=True):
        total += side.weight * network.objective.loss_changes(outputs, change, batch)
    return {"loss": network.objective.losses(outputs, batch), "change": total, "t": batch["t"]}


def _of(base: Tensor | None, start: int, stop: int) -> Tensor | None:
    return None if base is None else base[start:stop]


def _control(network: FullNetwork, rows: DrawRows, base: Tensor) -> float:
    """Return the largest |change of loss| of the unchanged model on the first batch: 0 unless outputs were mixed up."""
    count = min(BATCH, len(rows))
    batch = rows.batch(0, count)
    with torch.inference_mode():
        again = network.outputs(dict(network.parameters), batch)
    return float(network.objective.loss_changes(base[:count], again - base[:count], batch).abs().max())


def _spread(values: Tensor, rescored: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return values of the rows that were looked at among all rows, NaN elsewhere."""
    full = np.full((len(rescored), *values.shape[1:]), np.nan, dtype=np.float32)
    full[rescored] = values.float().numpy()
    return full
