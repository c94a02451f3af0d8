"""What pages and the command line ask of the leakage audit: run it, read it back, ask about single queries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.leakage.detection import KIND, LeakageOptions, binding, stored
from forwardinf_core.audits.leakage.records import NONE, Accuracy, Group, Leakage, Pair
from forwardinf_core.audits.leakage.signals import SIGNALS
from forwardinf_core.audits.leakage.single import search_one
from forwardinf_core.audits.leakage.verdicts import reasons_of
from forwardinf_core.audits.queries import TEST
from forwardinf_core.errors import RunNotFoundError
from forwardinf_core.jobs import run as jobs
from forwardinf_core.store.files import write_bytes
from forwardinf_core.store.runs import RunRecord, list_runs, open_run, run_id

Report = Callable[[float, str], None]


def run(audit: Audit, *, seed: int = 0, report: Report | None = None) -> Leakage:
    """Return the finished audit; run here and now where it is not stored."""
    options = LeakageOptions(seed=seed)
    if stored(audit, options) is None:

        def on_report(done: float, total: float, note: str) -> None:
            if report is not None:
                report(done / total if total else 0.0, note)

        jobs.run_here(KIND, audit.folder, options, on_report)
    found = find(audit, options)
    assert found is not None
    return found


def start(audit: Audit) -> str:
    """Queue the audit for the worker and return the id of the job, for ``audit.progress``."""
    return str(jobs.submit(KIND, audit.folder, LeakageOptions()))


def finished(audit: Audit) -> str | None:
    """Return the id of the finished run, or None; reads no table."""
    own = run_id(KIND, binding(audit, LeakageOptions()).key())
    return own if any(record.id == own for record in list_runs(audit.project, KIND)) else None


def find(audit: Audit, options: LeakageOptions | None = None) -> Leakage | None:
    """Return the finished audit of these rows and this model, or None."""
    record = stored(audit, options)
    return None if record is None else opened(audit, record)


def opened(audit: Audit, record: RunRecord) -> Leakage:
    """Return a run as the audit it is."""
    frame = record.frame("pairs")
    said = record.summary
    return Leakage(
        run_id=record.id,
        pairs=tuple(_pair(audit, row) for row in _records(frame[frame["rank"] == 0])),
        groups=tuple(_groups(record.frame("groups"))),
        prior=float(cast("float", said["prior"])),
        check=cast("dict[str, object]", said["check"]),
        alone=cast("dict[str, float]", said["alone"]),
        notes=tuple(cast("list[str]", said["notes"])),
        seconds=cast("dict[str, float]", said["seconds"]),
    )


def pairs_of(audit: Audit, found: Leakage, queries: Sequence[str]) -> tuple[Pair, ...]:
    """Return the best pair of each query: test rows as the audit found them, uploads compared now."""
    pairs = []
    for query in queries:
        if query.startswith(TEST):
            pairs.append(found.pairs[audit.test.position(query.removeprefix(TEST))])
        else:
            record = stored_by_id(audit, found.run_id)
            pairs.append(search_one(audit, record, query))
    return tuple(pairs)


def stored_by_id(audit: Audit, own_id: str) -> RunRecord:
    """Return the run of an open audit."""
    record = open_run(audit.project, own_id)
    if record.kind != KIND:
        raise RunNotFoundError(f"The run {own_id} is no leakage audit.", hint="Open the leakage screen.")
    return record


def ranks_by(audit: Audit, pairs: Sequence[Pair], method: str, *, report: Report | None = None) -> dict[str, int]:
    """Return where each pair's training row stands by an attribution method: 1 = the largest absolute score."""
    from forwardinf_core.audits.methods import method_named

    answers = audit.attribute_all([pair.query for pair in pairs], method_named(method), None, report=report)
    ranks = {}
    for pair, answer in zip(pairs, answers, strict=True):
        size = np.abs(answer.scores.score)
        ranks[pair.query] = int((size > size[pair.train]).sum()) + 1
    return ranks


def accuracy(audit: Audit, rows: np.ndarray) -> Accuracy:
    """Return the model's accuracy over some test rows; those without a label do not count."""
    from scipy.stats import binomtest

    said = audit.predictions()
    labelled = rows[said.label[rows] >= 0]
    right = int((said.prediction[labelled] == said.label[labelled]).sum())
    if not len(labelled):
        return Accuracy(0, 0, float("nan"), float("nan"), float("nan"))
    interval = binomtest(right, len(labelled)).proportion_ci(method="wilson")
    return Accuracy(len(labelled), right, right / len(labelled), float(interval.low), float(interval.high))


def accuracies(audit: Audit, found: Leakage) -> dict[str, Accuracy]:
    """Return the accuracy over all test rows, over the leaked ones, and over the rest."""
    every = np.arange(len(found.pairs))
    leaked = np.isin(every, found.leaked())
    return {
        "all": accuracy(audit, every),
        "leaked": accuracy(audit, every[leaked]),
        "without_leaked": accuracy(audit, every[~leaked]),
    }


def write_scores(audit: Audit, pairs: Sequence[Pair], path: Path) -> None:
    """Write test_id, train_id (the best), score and verdict of every pair, as parquet."""
    table = pd.DataFrame(
        {
            "test_id": [pair.query.removeprefix(TEST) for pair in pairs],
            "train_id": [audit.train_ids[pair.train] for pair in pairs],
            "score": np.asarray([pair.score for pair in pairs], dtype=np.float64),
            "verdict": [pair.verdict for pair in pairs],
        }
    )
    write_bytes(path, table.to_parquet(index=False))


def record_of(
    audit: Audit, found: Leakage, pairs: Sequence[Pair], ranks: dict[str, int] | None = None
) -> dict[str, object]:
    """Return the audit as JSON holds it: pairs that are copies, the surest first, or the few that were asked about."""
    few = len(pairs) < len(found.pairs)
    shown = [pair for pair in pairs if few or pair.verdict != NONE]
    return {
        "run_id": found.run_id,
        "n_test": len(found.pairs),
        "n_train": len(audit.train_ids),
        "verdicts": found.counts(),
        "estimated_share": float(found.scores.mean()),
        "accuracy": {
            name: {"rows": one.rows, "right": one.right, "share": one.share, "low": one.low, "high": one.high}
            for name, one in accuracies(audit, found).items()
        },
        "groups": len(found.groups),
        "check": dict(found.check),
        "signals_alone": dict(found.alone),
        "notes": list(found.notes),
        "seconds": dict(found.seconds),
        "pairs": [pair_record(audit, pair, ranks) for pair in sorted(shown, key=lambda one: -one.score)],
    }


def pair_record(audit: Audit, pair: Pair, ranks: dict[str, int] | None = None) -> dict[str, object]:
    """Return one pair."""
    record: dict[str, object] = {
        "query": pair.query,
        "train_id": audit.train_ids[pair.train],
        "score": pair.score,
        "verdict": pair.verdict,
        "labels": pair.labels,
        "mirrored": pair.is_mirrored,
        "reasons": list(reasons_of(pair)),
        "signals": dict(pair.signals),
        "influence": pair.influence,
        "influence_cosine": pair.influence_cosine,
    }
    if ranks is not None:
        record["rank_by_method"] = ranks[pair.query]
    return record


def _records(frame: pd.DataFrame) -> list[dict[str, object]]:
    return cast("list[dict[str, object]]", frame.sort_values("test").to_dict("records"))


def _pair(audit: Audit, row: dict[str, object]) -> Pair:
    test, train = int(cast("int", row["test"])), int(cast("int", row["train"]))
    names = [name for name in SIGNALS if name in row]
    return Pair(
        query=f"{TEST}{audit.test_ids[test]}",
        train=train,
        score=float(cast("float", row["score"])),
        verdict=str(row["verdict"]),
        is_mirrored=bool(row["mirrored"]),
        label=int(audit.test.labels[test]),
        train_label=int(audit.train.labels[train]),
        signals={name: float(cast("float", row[name])) for name in names},
        stands_out={name: float(cast("float", row[f"{name}_lead"])) for name in names},
        influence=float(cast("float", row["influence"])),
        influence_cosine=float(cast("float", row["influence_cosine"])),
    )


def _groups(frame: pd.DataFrame) -> list[Group]:
    groups = []
    for _, rows in frame.groupby("group", sort=True):
        by_split = {split: tuple(int(p) for p in part["position"]) for split, part in rows.groupby("split")}
        labels = {int(label) for label in rows["label"] if label >= 0}
        groups.append(
            Group(by_split.get("train", ()), by_split.get("test", ()), float(rows["score"].iloc[0]), len(labels) > 1)
        )
    return groups
