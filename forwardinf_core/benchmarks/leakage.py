"""How well each signal, and the fused verdict, finds the training row that a query is a copy of.

*Exact*: the paper's protocol, 1% of the training rows are also test rows. *Listed*: known near-duplicates between test
and training rows, from a list such as the one that comes with CIFAR-10. The fusion knows planted copies alone; every
other listed pair (the 1st, 3rd, …) was looked at while it was built, so the others are the ones to report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.context import AtOnce
from forwardinf_core.audits.head_influence import head_influence
from forwardinf_core.audits.leakage.detection import fusion_of, stored
from forwardinf_core.audits.leakage.fitted import spaces_of
from forwardinf_core.audits.leakage.medium import medium_of
from forwardinf_core.audits.leakage.records import NONE, Leakage
from forwardinf_core.audits.leakage.signals import likeness, query_block
from forwardinf_core.audits.leakage.traces import Traces, described
from forwardinf_core.audits.methods import method_named
from forwardinf_core.datasets.views import Subset
from forwardinf_core.errors import DataError
from forwardinf_core.influence.network import slices
from forwardinf_core.influence.probe import FEATURES

FUSED = "fused"
UNGROUPED = "fused, other rows of the group not counted"
RAW, SIGNED, NORMALISED = "head influence, absolute", "head influence, signed", "head influence / √self-influence"
EXACT_SEED = 0
EXACT_SHARE = 0.01  # the paper's: 1% of the training rows
RECIPE_QUERIES = 5  # the released recipe costs a pass over all rows for each


@dataclass(frozen=True)
class Found:
    """How often the true row is first, or among the first five, and its median rank."""

    signal: str
    pairs: int
    top1: float
    top5: float
    median: float


@dataclass(frozen=True)
class Flagged:
    """The verdict over all test rows against the list. ``unlisted`` are to be looked at: the list is not complete."""

    listed: int
    listed_found: int
    flagged: int
    unlisted: tuple[tuple[str, str, float, str], ...]  # test id, train id, confidence, verdict


@dataclass(frozen=True)
class Copies:
    """Queries with the training row that each is a copy of. ``traces``: as they are, and mirrored where rows can be."""

    traces: tuple[Traces, Traces | None]
    labels: Tensor
    truth: NDArray[np.int64]


def listed_pairs(audit: Audit, path: Path, *, same_shot: bool = False) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return test and training positions of a list with the columns test_id and train_id.

    ``same_shot`` keeps those whose column ``judgment`` is 1: the same shot, as in the list that comes with CIFAR-10.
    """
    table = pd.read_csv(path, dtype=str)
    if same_shot:
        if "judgment" not in table.columns:
            raise DataError(f"{path.name} has no column judgment.", hint="1 says: the same shot.")
        table = table[table["judgment"] == "1"]
    if not {"test_id", "train_id"} <= set(table.columns):
        raise DataError(f"{path.name} has no columns test_id and train_id.", hint=f"It has {', '.join(table.columns)}.")
    tests = np.asarray([audit.test.position(row_id) for row_id in table["test_id"]])
    return tests, np.asarray([audit.train.position(row_id) for row_id in table["train_id"]])


def listed_copies(audit: Audit, tests: NDArray[np.int64], trains: NDArray[np.int64]) -> Copies:
    """Return the listed pairs as queries; reads the finished audit's caches."""
    place, chosen = audit.workplace(AtOnce()), torch.from_numpy(tests)

    def listed(*, mirrored: bool) -> Traces:
        found = described(place, audit.test, mirrored=mirrored)
        return Traces({name: value[chosen] for name, value in found.parts.items()})

    turned = listed(mirrored=True) if medium_of(audit.content).turns else None
    return Copies((listed(mirrored=False), turned), torch.from_numpy(audit.test.labels[tests].copy()), trains)


def exact_copies(audit: Audit) -> Copies:
    """Return 1% of the training rows as queries: the paper's protocol, the model having seen all of them."""
    count = max(1, round(EXACT_SHARE * len(audit.train)))
    chosen = np.sort(np.random.default_rng(EXACT_SEED).permutation(len(audit.train))[:count])
    place, rows = audit.workplace(AtOnce()), Subset(audit.train, chosen)
    turned = described(place, rows, mirrored=True) if medium_of(audit.content).turns else None
    return Copies(
        (described(place, rows), turned), torch.from_numpy(audit.train_labels[chosen].copy()), chosen.astype(np.int64)
    )


def ranks_of(audit: Audit, copies: Copies) -> dict[str, NDArray[np.int64]]:
    """Return the rank of each query's true row among all training rows, 1 = first, by every signal.

    UNGROUPED leaves out what the audit itself joined with the true row: other copies, neither found nor missed.
    """
    record = stored(audit)
    if record is None:
        raise DataError("The leakage audit of this project is not finished.", hint="Run: leakage PROJECT")
    fusion, place = fusion_of(record), audit.workplace(AtOnce())
    train = described(place, audit.train)
    spaces, head = spaces_of(place, train), head_influence(place)
    labels = torch.from_numpy(audit.train_labels.copy())
    own = None if head is None else head.on_itself(train.parts[FEATURES], labels).sqrt().clamp_min(1e-12)
    others = other_copies(record.frame("groups"))
    ranks: dict[str, list[NDArray[np.int64]]] = {}
    for start, stop in slices(len(copies.truth), query_block(spaces)):
        queries, flipped = (one and one.rows(start, stop) for one in copies.traces)
        assert queries is not None
        found = likeness(spaces, queries, flipped)
        scores = dict(zip(spaces.names, found.values, strict=True)) | {FUSED: fusion.evidence(found.features())}
        if head is not None and own is not None:
            solved = head.solved(queries.parts[FEATURES], copies.labels[start:stop])
            influence = head.on_rows(train.parts[FEATURES], labels, solved)
            scores |= {RAW: influence.abs(), SIGNED: influence, NORMALISED: (influence / own).abs()}
        scores[UNGROUPED] = without(scores[FUSED], copies.truth[start:stop], others)
        for name, values in scores.items():
            ranks.setdefault(name, []).append(_ranks(values, copies.truth[start:stop]))
    return {name: np.concatenate(parts) for name, parts in ranks.items()}


def other_copies(groups: pd.DataFrame) -> dict[int, NDArray[np.int64]]:
    """Return, by training position, the other training rows of its group."""
    train = groups[groups["split"] == "train"]
    members = [rows["position"].to_numpy(np.int64) for _, rows in train.groupby("group")]
    return {int(own): rows[rows != own] for rows in members for own in rows}


def without(scores: Tensor, truth: NDArray[np.int64], others: dict[int, NDArray[np.int64]]) -> Tensor:
    """Return scores (q, n) with −∞ at the other copies of each query's true row."""
    left = scores.clone()
    for query, own in enumerate(truth.tolist()):
        left[query, torch.from_numpy(others.get(own, truth[:0]))] = -torch.inf
    return left


def with_judged(
    ranks: dict[str, NDArray[np.int64]],
    tests: NDArray[np.int64],
    more: dict[str, NDArray[np.int64]],
    more_tests: NDArray[np.int64],
) -> dict[str, NDArray[np.int64]]:
    """Return by signal, for each of ``tests`` (n,), the rank of the best of its true rows: the listed one or others.

    ``more`` (m,) are the ranks of pairs that were judged true beside the list, ``more_tests`` (m,) their test rows.
    """
    found = {name: values.copy() for name, values in ranks.items() if name != UNGROUPED}
    for name, values in found.items():
        for own, rank in zip(more_tests.tolist(), more[name].tolist(), strict=True):
            values[tests == own] = np.minimum(values[tests == own], rank)
    return found


def recipe_ranks(audit: Audit, test_positions: NDArray[np.int64], truth: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the ranks by the paper's released recipe, for the first few queries."""
    few = [f"test:{audit.test_ids[position]}" for position in test_positions[:RECIPE_QUERIES]]
    answers = audit.attribute_all(few, method_named("forward-inf"), None)
    scores = torch.from_numpy(np.stack([np.abs(answer.scores.score) for answer in answers]))
    return _ranks(scores, truth[: len(few)])


def found_of(signal: str, ranks: NDArray[np.int64]) -> Found:
    """Return the figures of one signal."""
    return Found(signal, len(ranks), float((ranks == 1).mean()), float((ranks <= 5).mean()), float(np.median(ranks)))


def table_of(ranks: dict[str, NDArray[np.int64]], rows: Sequence[int] | slice = slice(None)) -> tuple[Found, ...]:
    """Return the figures of every signal over some of the pairs, the best first."""
    found = [found_of(name, values[rows]) for name, values in ranks.items()]
    return tuple(sorted(found, key=lambda one: (-one.top1, -one.top5)))


def flagged(audit: Audit, found: Leakage, tests: NDArray[np.int64]) -> Flagged:
    """Return what the verdict says over all test rows, against the listed ones."""
    listed = {f"test:{audit.test_ids[position]}" for position in tests}
    called = [pair for pair in found.pairs if pair.verdict != NONE]
    unlisted = sorted((pair for pair in called if pair.query not in listed), key=lambda pair: -pair.score)
    return Flagged(
        listed=len(listed),
        listed_found=sum(pair.query in listed for pair in called),
        flagged=len(called),
        unlisted=tuple(
            (pair.query.removeprefix("test:"), audit.train_ids[pair.train], pair.score, pair.verdict)
            for pair in unlisted
        ),
    )


def _ranks(scores: Tensor, truth: NDArray[np.int64]) -> NDArray[np.int64]:
    rows = torch.arange(len(scores))
    own = scores[rows, torch.from_numpy(truth)].unsqueeze(1)
    found: NDArray[np.int64] = ((scores > own).sum(1) + 1).numpy()
    return found
