"""Which training rows helped this prediction, and which hurt it? (The paper's section 4, on the user's own model.)

Answers are runs: asked again about the same model, rows and options, they are read back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from forwardinf_core.audits.context import Context
from forwardinf_core.audits.methods import Method
from forwardinf_core.audits.records import Attribution, MethodReport
from forwardinf_core.audits.scoring import Scored, ScoredGroup, averaged, score_group
from forwardinf_core.errors import DataError
from forwardinf_core.influence.objective import Batch, Classification
from forwardinf_core.influence.scores import ScoreTable
from forwardinf_core.influence.scoring import candidate_scores as scores_by_label
from forwardinf_core.influence.update import SIDES, Direction
from forwardinf_core.store.binding import Binding, Option
from forwardinf_core.store.runs import RunRecord, find_run, open_run, save_run

if TYPE_CHECKING:
    from forwardinf_core.audits.audit import Audit

KEPT_NUMBERS = 5_000_000  # numbers of output changes kept with a run: 20 MB
KIND = "attribution"
VERSION = 3  # rises when the same options would give other scores
GROUP = 20  # queries that share one read of the rows


@dataclass(frozen=True)
class AttributeOptions:
    """Queries to attribute by one method; ``target`` None asks about each row's own label, else the predicted class."""

    queries: tuple[str, ...]
    method: Method
    target: int | None = None


def answer(
    audit: Audit, queries: Sequence[str], method: Method, target: int | None, context: Context
) -> list[RunRecord]:
    """Return one run for each query, in order; computes what is not stored, in groups that share a read."""
    asked = {query: audit.target_of(query, target) for query in queries}
    missing = [query for query in asked if stored(audit, query, method, asked[query]) is None]
    place = audit.workplace(context)
    for start in range(0, len(missing), GROUP):
        group = missing[start : start + GROUP]
        batches = [audit.queries.batch(query, asked[query]) for query in group]
        result = _averaged(audit, method, batches, context) if method.average else score_group(place, method, batches)
        for query, scored in zip(group, result.queries, strict=True):
            _save(audit, query, asked[query], method, scored, result)
    found = [stored(audit, query, method, asked[query]) for query in queries]
    assert all(record is not None for record in found)
    return [record for record in found if record is not None]


def _averaged(audit: Audit, method: Method, batches: Sequence[Batch], context: Context) -> ScoredGroup:
    return averaged([score_group(one.workplace(context), method, batches) for one in audit.members()])


def candidate_scores(audit: Audit, attribution: Attribution, position: int) -> NDArray[np.float32]:
    """Return the score the row would have under every label, (n_classes,): the same passes, no new one.

    Raises DataError for a row whose change of outputs was too weak to be kept (many classes and rows only).
    """
    record = open_run(audit.project, attribution.run_id)
    if attribution.method.options["average"]:
        raise DataError("Averaged scores keep no outputs.", hint="Ask without averaging to try other labels.")
    kept = record.tensors("changes")
    places = torch.nonzero(kept["positions"] == position).flatten()
    if not len(places):
        raise DataError(
            f"For the training row {audit.train_ids[position]} only its score was kept.",
            hint=f"Other labels can be tried on the {len(kept['positions'])} rows with the strongest effect.",
        )
    direction = cast("Direction", record.summary["direction"])
    changes = [kept[f"change{side}"][places] for side in range(len(SIDES[direction]))]
    base = audit.outputs_of(attribution.method.scope)[position : position + 1]
    objective = audit.model.objective
    assert isinstance(objective, Classification)
    scores: NDArray[np.float32] = scores_by_label(objective, base, changes, direction)[0].numpy()
    return scores


def _binding(audit: Audit, query: str, method: Method, target: int) -> Binding:
    split, _, key = query.partition(":")
    fingerprints = {"model": audit.model.fingerprint, "train": audit.train.fingerprint}
    if method.average:
        fingerprints |= {f"checkpoint-{n}": one.model.fingerprint for n, one in enumerate(audit.members())}
    fingerprints["query"] = f"{audit.test.fingerprint}:{key}" if split == "test" else key
    return Binding(KIND, fingerprints, {"query": query, "target": target, **method.options()}, VERSION)


def stored(audit: Audit, query: str, method: Method, target: int) -> RunRecord | None:
    return find_run(audit.project, KIND, _binding(audit, query, method, target).key())


def _save(audit: Audit, query: str, target: int, method: Method, scored: Scored, group: ScoredGroup) -> RunRecord:
    table = scored.table
    columns = {"id": audit.train_ids, "score": table.score, "base_loss": table.base_loss}
    columns["percentile"] = table.percentile
    if table.score_full is not None:
        columns["score_full"] = table.score_full
    summary: dict[str, Option] = {
        "direction": scored.direction,
        "loss_before": scored.loss_before,
        "loss_after": scored.loss_after,
        "rise": scored.rise,
        "unchanged_max_abs_score": group.control,
        "unchanged_rows": group.control_rows,
        "queries_in_group": len(group.queries),
        "seconds": dict(group.seconds),
    }
    return save_run(
        audit.project,
        KIND,
        _binding(audit, query, method, target).key(),
        options={"query": query, "target": target, **method.options()},
        summary=summary,
        frames={"scores": pd.DataFrame(columns)},
        tensors={"changes": kept_changes(scored)} if scored.changes else {},
    )


def opened(audit: Audit, record: RunRecord) -> Attribution:
    frame, said = record.frame("scores"), record.summary
    full = frame["score_full"].to_numpy(np.float32) if "score_full" in frame else None
    options = dict(record.options)
    query, target = str(options.pop("query")), int(cast("int", options.pop("target")))
    scope = str(options["scope"])
    table = ScoreTable(frame["score"].to_numpy(np.float32), frame["base_loss"].to_numpy(np.float32), scope, full)
    report = MethodReport(
        name=str(options["name"]),
        scope=scope,
        options=cast("dict[str, str | int | float | bool | None]", options),
        loss_before=cast("float", said["loss_before"]),
        loss_after=cast("float", said["loss_after"]),
    )
    return Attribution(
        run_id=record.id,
        query=query,
        prediction=audit.predict(query),
        target=target,
        method=report,
        scores=table,
        unchanged_max_abs_score=cast("float", said["unchanged_max_abs_score"]),
        unchanged_rows=cast("int", said["unchanged_rows"]),
        seconds=cast("dict[str, float]", said["seconds"]),
    )


def kept_changes(scored: Scored) -> dict[str, Tensor]:
    """Return the change of outputs of all rows, or of the strongest ones where all would be too much to keep."""
    n_rows, n_outputs = scored.changes[0].shape
    count = min(n_rows, max(KEPT_NUMBERS // (n_outputs * len(scored.changes)), 1))
    strongest = np.argsort(-np.abs(scored.table.score), kind="stable")[:count]
    positions = torch.from_numpy(np.sort(strongest).astype(np.int64))
    return {"positions": positions} | {f"change{side}": c[positions] for side, c in enumerate(scored.changes)}
