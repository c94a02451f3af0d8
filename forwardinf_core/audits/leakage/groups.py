"""Rows that are copies of each other, within the training rows, within the test rows, and across, as groups.

Every row is compared with every other of its split by the same fused evidence, each hidden from itself; pairs that are
sure become edges, and what hangs together is a group.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.leakage.fusion import Fusion, confidence
from forwardinf_core.audits.leakage.records import NONE
from forwardinf_core.audits.leakage.signals import Spaces, likeness, placed, query_block
from forwardinf_core.audits.leakage.traces import Traces
from forwardinf_core.audits.leakage.verdicts import SURE
from forwardinf_core.influence.network import slices

NEAREST = 5  # edges looked for from each row; a larger group still hangs together through its members

Report = Callable[[float, float, str], None]
Edges = NDArray[np.float64]  # (m, 3): one row, the other row, confidence


def find_groups(
    audit: Audit,
    spaces: Spaces,
    fusion: Fusion,
    prior: float,
    splits: tuple[Traces, Traces],
    pairs: pd.DataFrame,
    report: Report,
) -> pd.DataFrame:
    """Return a record for each row in a group: group (by falling confidence), split, position, id, label, score."""
    train, test = splits
    n_train = len(train)
    across = pairs[pairs["verdict"] != NONE][["train", "test", "score"]].to_numpy(np.float64)
    across[:, 1] += n_train
    within_train = edges_within(spaces, fusion, prior, train, report, "Looking for duplicates among the training rows")
    within_test = edges_within(
        placed(spaces.spaces, test), fusion, prior, test, report, "Looking for duplicates among the test rows"
    )
    within_test[:, :2] += n_train
    edges = np.concatenate([across, within_train, within_test])
    labels = np.concatenate([audit.train.labels, audit.test.labels])
    ids = [*audit.train_ids, *audit.test_ids]
    records = []
    for number, (members, score) in enumerate(hanging_together(edges, n_train + len(test))):
        for member in members.tolist():
            is_train = member < n_train
            records.append(
                {
                    "group": number,
                    "split": "train" if is_train else "test",
                    "position": member if is_train else member - n_train,
                    "id": ids[member],
                    "label": int(labels[member]),
                    "score": score,
                }
            )
    return pd.DataFrame(records, columns=["group", "split", "position", "id", "label", "score"])


def edges_within(spaces: Spaces, fusion: Fusion, prior: float, rows: Traces, report: Report, note: str) -> Edges:
    """Return the sure pairs within one split, whose rows are the ones the spaces hold."""
    found = []
    for start, stop in slices(len(rows), query_block(spaces)):
        own = torch.arange(start, stop)
        evidence = fusion.evidence(likeness(spaces, rows.rows(start, stop), None, excluded=own).features())
        evidence[torch.arange(stop - start), own] = -torch.inf
        best = evidence.topk(min(NEAREST, max(len(rows) - 1, 1)), dim=1)
        sure = confidence(fusion.log_odds(best.values.double().numpy()), prior)
        for query, rank in np.argwhere(sure >= SURE):
            found.append((start + query, int(best.indices[query, rank]), sure[query, rank]))
        report(stop, len(rows), note)
    return np.asarray(found, dtype=np.float64).reshape(-1, 3)


def hanging_together(edges: Edges, n_rows: int) -> list[tuple[NDArray[np.int64], float]]:
    """Return the groups of at least two rows with the weakest edge of each, the surest first."""
    if not len(edges):
        return []
    ends = edges[:, :2].astype(np.int64)
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(n_rows, n_rows))
    _, component = connected_components(graph, directed=False)
    weakest: dict[int, float] = {}
    for (first, _), score in zip(ends.tolist(), edges[:, 2].tolist(), strict=True):
        own = int(component[first])
        weakest[own] = min(weakest.get(own, 1.0), score)
    groups = [(np.flatnonzero(component == own), score) for own, score in weakest.items()]
    return sorted(groups, key=lambda group: (-group[1], int(group[0][0])))
