"""Rows that are copies of each other, within the training rows, within the test rows, and across, as groups.

Every row is compared with every other of its split, each hidden from itself; pairs that are sure become edges, and what
hangs together is a group. Rows of one split may be a family of dozens, which would not stand out from the tenth nearest
row, so here they are to stand out from the last one kept (signals.py) by a confidence learned for that. Test rows are
to stand out from the training rows, which are as many as those that the confidence was learned on.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.leakage.fusion import Fusion, confidence
from forwardinf_core.audits.leakage.records import NONE
from forwardinf_core.audits.leakage.signals import Spaces, likeness, query_block, standing_out
from forwardinf_core.audits.leakage.traces import Traces
from forwardinf_core.audits.leakage.verdicts import SURE
from forwardinf_core.influence.network import slices

NEAREST = 5  # edges looked for from each row; a larger group still hangs together through its members

Report = Callable[[float, float, str], None]
Edges = NDArray[np.float64]  # (m, 3): one row, the other row, confidence


def find_groups(audit: Audit, pairs: pd.DataFrame, within_train: Edges, within_test: Edges) -> pd.DataFrame:
    """Return a record for each row in a group: group (by falling confidence), split, position, id, label, score."""
    n_train = len(audit.train)
    across = pairs[pairs["verdict"] != NONE][["train", "test", "score"]].to_numpy(np.float64)
    across[:, 1] += n_train
    edges = np.concatenate([across, within_train, within_test + np.asarray([n_train, n_train, 0])])
    labels = np.concatenate([audit.train.labels, audit.test.labels])
    ids = [*audit.train_ids, *audit.test_ids]
    records = []
    for number, (members, score) in enumerate(hanging_together(edges, n_train + len(audit.test))):
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


def edges_within(
    spaces: Spaces, joining: Fusion, prior: float, rows: Traces, report: Report, note: str, far: Tensor | None = None
) -> Edges:
    """Return the sure pairs within one split, whose rows are the ones the spaces hold.

    ``far`` (n, s): what each row is to stand out from, the last row kept of its own split without it.
    """
    found = []
    for start, stop in slices(len(rows), query_block(spaces)):
        own = torch.arange(start, stop)
        alike = likeness(spaces, rows.rows(start, stop), None, excluded=own)
        crowd = alike.nearest.far() if far is None else far[start:stop]
        evidence = joining.evidence(standing_out(alike.values.permute(1, 2, 0), crowd))
        evidence[torch.arange(stop - start), own] = -torch.inf
        best = evidence.topk(min(NEAREST, max(len(rows) - 1, 1)), dim=1)
        sure = confidence(joining.log_odds(best.values.double().numpy()), prior)
        for query, rank in np.argwhere(sure >= SURE):
            found.append((start + query, int(best.indices[query, rank]), sure[query, rank]))
        report(stop, len(rows), note)
    return np.asarray(found, dtype=np.float64).reshape(-1, 3)


def families_of(edges: Edges, n_rows: int) -> Tensor:
    """Return a number for each row, (n_rows,), the same for rows that hang together."""
    return torch.from_numpy(_components(edges, n_rows))


def families_in(groups: pd.DataFrame, n_train: int) -> Tensor:
    """Return the same of the training rows from the groups of a finished run."""
    joined = groups[groups["split"] == "train"]
    families = np.arange(n_train)
    families[joined["position"].to_numpy(np.int64)] = n_train + joined["group"].to_numpy(np.int64)
    return torch.from_numpy(families)


def hanging_together(edges: Edges, n_rows: int) -> list[tuple[NDArray[np.int64], float]]:
    """Return the groups of at least two rows with the weakest edge of each, the surest first."""
    if not len(edges):
        return []
    component = _components(edges, n_rows)
    weakest: dict[int, float] = {}
    for first, score in zip(edges[:, 0].astype(np.int64).tolist(), edges[:, 2].tolist(), strict=True):
        own = int(component[first])
        weakest[own] = min(weakest.get(own, 1.0), score)
    groups = [(np.flatnonzero(component == own), score) for own, score in weakest.items()]
    return sorted(groups, key=lambda group: (-group[1], int(group[0][0])))


def _components(edges: Edges, n_rows: int) -> NDArray[np.int64]:
    ends = edges[:, :2].astype(np.int64)
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(n_rows, n_rows))
    found: NDArray[np.int64] = connected_components(graph, directed=False)[1].astype(np.int64)
    return found
