"""Plants altered copies of training rows and learns from them what a copy looks like to this model, on these rows.

Queries with a copy: an altered training row; its origin is among the training rows. Queries without: other training
rows as they are, each hidden from its own search, unless they have an evident twin. Half of each teaches, the other
half checks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forwardinf_core.audits.context import Context
from forwardinf_core.audits.leakage.fusion import RIVALS, Check, Fusion, fit_confidence, fit_weights, sigmoid
from forwardinf_core.audits.leakage.medium import Medium, medium_of
from forwardinf_core.audits.leakage.signals import Spaces, likeness, query_block, standing_out
from forwardinf_core.audits.leakage.traces import Describe, Traces
from forwardinf_core.datasets.rows import DataRows
from forwardinf_core.influence.network import slices

MOST_PLANTED = 700  # about 100 of each kind of alteration
BATCH = 100


@dataclass(frozen=True, eq=False)
class Planted:
    """Queries with known answers. ``origin`` (p,): training position of the copied row; ``itself``: the row hidden."""

    queries: Traces
    mirrored: Traces | None  # None where rows have no mirror image
    origin: NDArray[np.int64]  # −1 where the query is no copy
    itself: NDArray[np.int64]  # −1 where the query is a copy
    kind: NDArray[np.int64]  # index into the medium's kinds, −1 where the query is no copy

    def tensors(self) -> dict[str, Tensor]:
        """Return what a chunk holds."""
        known = {name: torch.from_numpy(getattr(self, name)) for name in ("origin", "itself", "kind")}
        seen = {f"queries/{name}": value for name, value in self.queries.parts.items()}
        turned = {} if self.mirrored is None else self.mirrored.parts
        return known | seen | {f"mirrored/{name}": value for name, value in turned.items()}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> Planted:
        """Build it again from what ``tensors`` returned."""

        def part(prefix: str) -> Traces | None:
            found = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
            return Traces(found) if found else None

        origin, itself, kind = (tensors[name].numpy() for name in ("origin", "itself", "kind"))
        queries = part("queries/")
        assert queries is not None
        return cls(queries, part("mirrored/"), origin, itself, kind)


@dataclass(frozen=True)
class Calibration:
    """The fusion, what it was worth on the other half, and how each signal did there alone (top-1 by name).

    ``joining`` is another one, of how far rows stand out from the last row kept, which finds families.
    """

    fusion: Fusion
    joining: Fusion
    check: Check
    alone: dict[str, float]


def plant(train: DataRows, describe: Describe, context: Context, *, seed: int, most: int = MOST_PLANTED) -> Planted:
    """Draw rows, alter a copy of each of the first, and describe all as queries are described."""
    medium, count = medium_of(train.content), min(most, len(train) // 2)
    drawn = np.random.default_rng([seed, 0]).permutation(len(train))[: 2 * count]
    kind = np.where(np.arange(2 * count) < count, np.arange(2 * count) % len(medium.kinds), -1)
    parts: list[dict[str, Tensor]] = []
    flipped: list[dict[str, Tensor]] = []
    for start, stop in slices(2 * count, BATCH):
        how = [
            None if kind[number] < 0 else (medium.kinds[kind[number]], np.random.default_rng([seed, 1, number]))
            for number in range(start, stop)
        ]
        items = medium.taken(train, drawn[start:stop].tolist()).altered(how)
        parts.append(describe(items))
        if medium.turns:
            flipped.append(describe(items.mirrored()))
        context.report(stop, 2 * count, "Planting copies to learn from")
    planted = kind >= 0
    return Planted(
        _joined(parts),
        _joined(flipped) if flipped else None,
        np.where(planted, drawn, -1),
        np.where(planted, -1, drawn),
        kind,
    )


def _joined(parts: list[dict[str, Tensor]]) -> Traces:
    return Traces({name: torch.cat([part[name] for part in parts]) for name in parts[0]})


def calibrate(spaces: Spaces, planted: Planted, medium: Medium) -> Calibration:
    """Learn the fusion on every other planted query, and check it on the rest."""
    teaches = (np.arange(len(planted.origin)) // len(medium.kinds)) % 2 == 0  # every kind in both halves
    compared = _compare(spaces, planted, medium)
    usable = (planted.origin >= 0) | ~compared.has_twin
    first, rest = teaches & usable, ~teaches & usable
    fusion, evidence = _learned(compared.near, planted.origin >= 0, first)
    return Calibration(
        fusion,
        _learned(compared.far, planted.origin >= 0, first)[0],
        _check(fusion, planted, evidence, rest, medium.kinds),
        _alone(spaces, planted, compared, rest),
    )


def _learned(
    features: NDArray[np.float32], is_copy: NDArray[np.bool_], rows: NDArray[np.bool_]
) -> tuple[Fusion, NDArray[np.float64]]:
    """Return the fusion learned on some queries, and the evidence of all pairs, features (p, 1 + RIVALS, 2 s)."""
    origins, rivals = features[rows & is_copy, :1], features[rows & is_copy, 1:]
    pairs = np.concatenate([part.reshape(-1, features.shape[2]) for part in (origins, rivals)])
    weights = fit_weights(pairs, np.arange(len(pairs)) < len(origins))
    evidence: NDArray[np.float64] = features @ np.asarray(weights)
    return fit_confidence(weights, evidence.max(1)[rows], is_copy[rows]), evidence


@dataclass(frozen=True, eq=False)
class _Compared:
    near: NDArray[np.float32]  # (p, 1 + RIVALS, 2 s) features of the origin (or first rival) and the nearest other rows
    far: NDArray[np.float32]  # the same rows, standing out from the last row kept
    has_twin: NDArray[np.bool_]
    first: NDArray[np.bool_]  # (p, s) the origin is nearest by each signal alone


def _compare(spaces: Spaces, planted: Planted, medium: Medium) -> _Compared:
    near, far, twins, firsts = [], [], [], []
    step = query_block(spaces)
    for start, stop in slices(len(planted.origin), step):
        itself, origin = torch.from_numpy(planted.itself[start:stop]), torch.from_numpy(planted.origin[start:stop])
        turned = None if planted.mirrored is None else planted.mirrored.rows(start, stop)
        found = likeness(spaces, planted.queries.rows(start, stop), turned, excluded=itself)
        row = torch.arange(stop - start)
        overall = found.values.sum(0)
        names = spaces.names
        twin = [found.values[names.index(name)] >= bound for name, bound in medium.twin.items()]
        twins.append(torch.stack(twin).all(0).any(1))
        nearest = found.values[:, row, origin.clamp_min(0)]  # (s, q)
        firsts.append((found.values <= nearest.unsqueeze(2)).all(2).T & (origin >= 0).unsqueeze(1))
        overall[row[origin >= 0], origin[origin >= 0]] = -torch.inf
        rivals = overall.topk(min(RIVALS, overall.shape[1] - 1), dim=1).indices
        first = torch.where(origin >= 0, origin, rivals[:, 0]).unsqueeze(1)
        values = found.of_rows(torch.cat([first, rivals], dim=1))
        near.append(standing_out(values, found.nearest.crowd()))
        far.append(standing_out(values, found.nearest.far()))
    return _Compared(*(torch.cat(parts).numpy() for parts in (near, far, twins, firsts)))


def _check(
    fusion: Fusion,
    planted: Planted,
    evidence: NDArray[np.float64],
    rows: NDArray[np.bool_],
    kinds: tuple[str, ...],
) -> Check:
    is_copy, best = planted.origin >= 0, evidence.max(1)
    sure = sigmoid(fusion.log_odds(best))
    said = sure >= 0.5
    right = is_copy & (evidence[:, 0] >= best)
    weight = np.where(is_copy, 0.5 / max((is_copy & rows).sum(), 1), 0.5 / max((~is_copy & rows).sum(), 1))
    hits, alarms = (weight * (said & is_copy & rows)).sum(), (weight * (said & ~is_copy & rows)).sum()
    by_kind = {
        name: float((said & right)[rows & (planted.kind == code)].mean())
        for code, name in enumerate(kinds)
        if (rows & (planted.kind == code)).any()
    }
    return Check(
        n_planted=int((rows & is_copy).sum()),
        n_others=int((rows & ~is_copy).sum()),
        top1=float(right[rows & is_copy].mean()),
        precision=float(hits / (hits + alarms)) if hits + alarms else 1.0,
        recall=float(2 * hits),
        brier=float((weight * (sure - is_copy) ** 2)[rows].sum()),
        by_kind=by_kind,
    )


def _alone(spaces: Spaces, planted: Planted, compared: _Compared, rows: NDArray[np.bool_]) -> dict[str, float]:
    chosen = rows & (planted.origin >= 0)
    return {name: float(compared.first[chosen, number].mean()) for number, name in enumerate(spaces.names)}
