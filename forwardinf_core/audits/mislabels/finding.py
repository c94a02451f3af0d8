"""The job ``mislabels``: every signal on the training rows, one ranking, and a run that keeps all of it.

Stages (features, heads, neighbours, planted errors) are chunks: a killed search goes on with the stage it was in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.mislabels import heads, neighbours, ranking
from forwardinf_core.audits.mislabels.opinions import Opinion
from forwardinf_core.audits.mislabels.planted import Calibration, Planted, plant
from forwardinf_core.audits.mislabels.records import Suspects
from forwardinf_core.audits.mislabels.requirements import checked_labels, notes_on
from forwardinf_core.audits.opening import load_audit
from forwardinf_core.errors import DataError
from forwardinf_core.influence.head import FEATURES
from forwardinf_core.influence.network import slices
from forwardinf_core.jobs import run as jobs
from forwardinf_core.jobs.context import JobContext
from forwardinf_core.jobs.registry import job
from forwardinf_core.store.binding import Binding, Option
from forwardinf_core.store.runs import RunRecord, find_run, list_runs, save_run

KIND = "mislabels"
VERSION = 1  # rises when the same options would give other scores
DEFAULT = "default"
LIKELY = 9  # classes a row that are kept, one for each digit key
FOLDS = 5

Report = Callable[[float, str], None]


@dataclass(frozen=True)
class FindOptions:
    """How to search. ``method`` is "default" or the name of the signal that the score is taken from."""

    method: str = DEFAULT
    folds: int = FOLDS
    seed: int = 0


def find_suspects(audit: Audit, options: FindOptions | None = None) -> Suspects | None:
    """Return a stored search of this model and these rows: the one with these options, else the newest; or None."""
    if options is not None:
        record = find_run(audit.project, KIND, _binding(audit, options).key())
        return None if record is None else _opened(audit, record)
    inputs = _inputs(audit)
    for record in list_runs(audit.project, KIND):
        if record.summary.get("inputs") == inputs:
            return _opened(audit, record)
    return None


def start_suspects(audit: Audit, options: FindOptions = FindOptions()) -> int:
    """Hand the search to the worker and return the id of its job, for ``jobs.run.status``."""
    return jobs.submit(KIND, audit.project.root, options)


def suspects_now(audit: Audit, options: FindOptions = FindOptions(), report: Report | None = None) -> Suspects:
    """Return the suspects: read back where they are stored, else searched for here and now."""
    found = find_suspects(audit, options)
    if found is None:

        def on_report(done: float, total: float, note: str) -> None:
            if report is not None:
                report(done / total if total else 0.0, note)

        jobs.run_here(KIND, audit.project.root, options, on_report)
        found = find_suspects(audit, options)
    assert found is not None
    return found


def fingerprints_of(project: Path, _options: object) -> dict[str, str]:
    """Return what a search reads."""
    return _inputs(load_audit(project))


@job(KIND, version=VERSION, fingerprints=fingerprints_of)
def search(context: JobContext, options: FindOptions) -> dict[str, Option]:
    """Search the training rows for wrong labels; returns the id of the run."""
    audit = load_audit(context.project)
    known = find_run(audit.project, KIND, _binding(audit, options).key())
    return {"run": (known or _searched(audit, options, context)).id}


def _inputs(audit: Audit) -> dict[str, str]:
    return {"model": audit.model.fingerprint, "train": audit.train.fingerprint}


def _binding(audit: Audit, options: FindOptions) -> Binding:
    return Binding(KIND, _inputs(audit), asdict(options), VERSION)


def _stage(context: JobContext, name: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    kept = context.chunks.get(name)
    if kept is None:
        kept = compute()
        context.chunks.put(name, kept)
    return kept


def features_of(audit: Audit, context: JobContext) -> tuple[Tensor, Tensor]:
    """Return features (n, d) and outputs (n, c) of the training rows; without a head, outputs are the features."""
    place = audit.workplace(context)
    if audit.model.head is None:
        outputs = place.scope("full").base_outputs
        return outputs.log_softmax(1), outputs
    scope = place.scope("head")
    features = scope.rows.batch(0, len(scope.rows))[FEATURES]
    return features, scope.base_outputs


def _searched(audit: Audit, options: FindOptions, context: JobContext) -> RunRecord:
    labels = torch.from_numpy(checked_labels(audit.train))
    n_classes = len(audit.classes)
    raw, outputs = features_of(audit, context)
    features = heads.standardised(raw)
    folds = heads.folds_of(labels.numpy(), options.folds, options.seed)

    def report(note: str) -> Callable[[int, int], None]:
        return lambda done, total: context.report(done, total, note)

    def held_out() -> dict[str, Tensor]:
        penalty = heads.suitable_penalty(features, labels, n_classes, torch.from_numpy(folds == 0))
        opinion = heads.held_out_opinion(
            features, labels, n_classes, folds, penalty=penalty, report=report("Fitting heads that leave rows out")
        )
        return opinion.tensors("") | {"penalty": torch.tensor(penalty, dtype=torch.float64)}

    kept = _stage(context, "held-out", held_out)
    opinion, penalty = Opinion.from_tensors(kept, ""), float(kept["penalty"])
    nearest = _stage(
        context,
        "neighbours",
        lambda: {
            "rows": neighbours.nearest_rows(features, neighbours.VOTERS, report=report("Finding the nearest rows")).to(
                torch.int32
            )
        },
    )["rows"]
    signals = {
        "held_out": opinion.loss(),
        "held_out_margin": opinion.margin(labels),
        "neighbours": neighbours.disagreement(nearest.long(), labels),
        **own_signals(outputs, labels),
    }

    def planted_copy() -> dict[str, Tensor]:
        planted = plant(labels.numpy(), opinion, options.seed)
        copy = torch.from_numpy(planted.labels)
        judged = heads.held_out_opinion(
            features, copy, n_classes, folds, penalty=penalty, report=report("Planting errors to calibrate by")
        )
        again = {"held_out": judged.loss(), "neighbours": neighbours.disagreement(nearest.long(), copy)}
        return {**again, "rows": torch.from_numpy(planted.rows), "labels": copy}

    copy = _stage(context, "planted", planted_copy)
    return _save(audit, options, labels.numpy(), _as_arrays(signals), opinion, nearest, _as_arrays(copy))


def own_signals(outputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return loss and margin of the audited model itself, in blocks of rows."""
    found: list[Opinion] = []
    for start, stop in slices(len(labels), max(1, heads.BLOCK_NUMBERS // outputs.shape[1])):
        found.append(Opinion.of(outputs[start:stop].float().log_softmax(1), labels[start:stop]))
    opinion = Opinion.joined(found)
    return {"loss": opinion.loss(), "margin": opinion.margin(labels)}


def _as_arrays(tensors: dict[str, Tensor]) -> dict[str, NDArray[np.float32]]:
    return {name: value.float().numpy() for name, value in tensors.items()}


def _save(
    audit: Audit,
    options: FindOptions,
    labels: NDArray[np.int64],
    signals: dict[str, NDArray[np.float32]],
    opinion: Opinion,
    nearest: Tensor,
    copy: dict[str, NDArray[np.float32]],
) -> RunRecord:
    calibrating = {name: ranking.WEIGHTS[name] for name in ("held_out", "neighbours")}
    calibration = Calibration.fit(
        ranking.combined(copy, calibrating), Planted(copy["labels"].astype(np.int64), copy["rows"] > 0)
    )
    chance = calibration.chance(ranking.combined(signals, calibrating))
    default = ranking.combined(signals, ranking.WEIGHTS)
    if options.method not in (DEFAULT, *signals):
        raise DataError(
            f"There is no signal {options.method!r}.", hint=f"There are: {', '.join((DEFAULT, *sorted(signals)))}."
        )
    score = default if options.method == DEFAULT else signals[options.method]
    suggested = suggested_labels(opinion, torch.from_numpy(labels)).numpy()
    frame = pd.DataFrame({"id": list(audit.train_ids), "score": score, "label": labels, "suggested_label": suggested})
    frame["wrong_chance"] = chance
    for name, values in signals.items():
        frame[name] = values
    return save_run(
        audit.project,
        KIND,
        _binding(audit, options).key(),
        options=cast("dict[str, Option]", asdict(options)),
        summary={
            "inputs": dict(_inputs(audit)),
            "weights": dict(ranking.WEIGHTS),
            "n_wrong": float(chance.sum()),
            "notes": list(notes_on(audit.train, labels)),
        },
        frames={"suspects": frame},
        tensors={
            "more": {
                "nearest": nearest[:, : neighbours.SHOWN].contiguous(),
                "likely": opinion.classes[:, :LIKELY].contiguous(),
                "likely_share": opinion.log_shares[:, :LIKELY].exp(),
            }
        },
    )


def suggested_labels(opinion: Opinion, labels: Tensor) -> Tensor:
    """Return the likeliest class of each row, (n,): its own label where none is likelier."""
    other, share = opinion.other(labels)
    return torch.where(share > opinion.own, other, labels)


def _opened(audit: Audit, record: RunRecord) -> Suspects:
    frame, more = record.frame("suspects"), record.tensors("more")
    label = frame["label"].to_numpy(np.int64)
    score, chance = frame["score"].to_numpy(np.float32), frame["wrong_chance"].to_numpy(np.float32)
    order = np.argsort(-score, kind="stable")
    fixed = {"id", "score", "label", "suggested_label", "wrong_chance"}
    return Suspects(
        run_id=record.id,
        method=str(record.options["method"]),
        ids=tuple(frame["id"].astype(str)),
        classes=audit.classes,
        label=label,
        suggested=frame["suggested_label"].to_numpy(np.int64),
        score=score,
        likely=more["likely"].numpy(),
        likely_share=more["likely_share"].numpy(),
        signals={name: frame[name].to_numpy(np.float32) for name in frame.columns if name not in fixed},
        wrong_chance=chance,
        n_wrong=float(cast("float", record.summary["n_wrong"])),
        n_wrong_by_class=np.bincount(label, weights=chance, minlength=len(audit.classes)).astype(np.float32),
        expected_precision=(chance[order].cumsum() / np.arange(1, len(order) + 1)).astype(np.float32),
        nearest=more["nearest"].numpy(),
        trusted_ids=(),
        trusted_labels=np.zeros(0, np.int64),
        trusted_against=np.zeros((len(label), 0), np.int32),
        notes=tuple(str(note) for note in cast("list[str]", record.summary["notes"])),
        created=record.created,
    )
