r"""The jobs ``memorization`` (an estimate for every row, seconds) and ``memorization-reference`` (retraining).

Memorized is what a row's own presence adds to the probability p of its label (Feldman and Zhang 2020). Self-influence
s = gᵀ(F + λI)⁻¹g says how far its loss would rise without it, to first order; p then falls by p s. A row that the model
gets wrong in spite of having seen it has a large s and a small p s: it is not known by heart.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.head_influence import head_influence
from forwardinf_core.audits.memorization.records import Memorization
from forwardinf_core.audits.memorization.reference import Reference, reference_of
from forwardinf_core.audits.methods import method_named
from forwardinf_core.audits.opening import load_audit
from forwardinf_core.audits.preparation import Workplace
from forwardinf_core.audits.scopes import BATCH
from forwardinf_core.errors import AuditError, DataError, ModelError
from forwardinf_core.influence.curvature.ekfac import EkfacCurvature
from forwardinf_core.influence.graph import GraphNetwork
from forwardinf_core.influence.head import FEATURES
from forwardinf_core.influence.network import slices
from forwardinf_core.influence.objective import Classification
from forwardinf_core.influence.self_influence import tail_self_influences
from forwardinf_core.jobs import run as jobs
from forwardinf_core.jobs.context import JobContext
from forwardinf_core.jobs.registry import job
from forwardinf_core.store.binding import Binding, Option
from forwardinf_core.store.files import write_bytes
from forwardinf_core.store.runs import RunRecord, find_run, list_runs, run_id, save_run
from forwardinf_core.verification.recipes import retraining_of
from forwardinf_core.verification.retraining import Task, half_subsets

KIND, REFERENCE_KIND = "memorization", "memorization-reference"
VERSIONS = {KIND: 2, REFERENCE_KIND: 1}  # rise when the same options would give other figures
SCOPES = ("head", "tail")
HEAD_BLOCK = 2_000  # rows between two reports
FEWEST_ROWS = 20

Report = Callable[[float, str], None]


@dataclass(frozen=True)
class MemorizationOptions:
    """Which part of the network a row's influence on itself goes through."""

    scope: Literal["head", "tail"] = "head"


@dataclass(frozen=True)
class ReferenceOptions:
    """How many networks are trained on random halves, and the seed that the halves are drawn with."""

    networks: int = 200
    seed: int = 0


def binding(audit: Audit, kind: str, options: MemorizationOptions | ReferenceOptions) -> Binding:
    """Return what a run is made from."""
    prints = {"model": audit.model.fingerprint, "train": audit.train.fingerprint}
    return Binding(kind, prints, asdict(options), VERSIONS[kind])


def fingerprints_of(project: Path, _options: object) -> dict[str, str]:
    """Return what the jobs read."""
    return dict(binding(load_audit(project), KIND, MemorizationOptions()).fingerprints)


@job(KIND, version=VERSIONS[KIND], fingerprints=fingerprints_of)
def score_rows(context: JobContext, options: MemorizationOptions) -> dict[str, Option]:
    """Score every training row by what its influence on itself adds to the probability of its label."""
    audit = load_audit(context.project)
    key = binding(audit, KIND, options).key()
    record = find_run(audit.project, KIND, key)
    if record is None:
        check_rows(audit)
        start = time.perf_counter()
        place = audit.workplace(context)
        scores, outputs, said = _head(place) if options.scope == "head" else _tail(place)
        labels = torch.from_numpy(audit.train_labels.copy())
        chance = outputs.double().softmax(1).gather(1, labels.unsqueeze(1)).squeeze(1)
        frame = pd.DataFrame(
            {
                "id": list(audit.train_ids),
                "score": (chance * scores.double()).numpy(),
                "chance": chance.numpy(),
                "loss": Classification().losses(outputs, {"label": labels}).double().numpy(),
            }
        )
        summary: dict[str, Option] = {**said, "seconds": {"score": time.perf_counter() - start}}
        record = save_run(audit.project, KIND, key, options=asdict(options), summary=summary, frames={"rows": frame})
    return {"run": record.id}


def check_rows(audit: Audit) -> None:
    """Raise DataError, in a sentence, where the question has no answer."""
    if len(audit.train) < FEWEST_ROWS:
        raise DataError(
            f"There are {len(audit.train)} training rows, too few to compare their memorization.",
            hint=f"The memorization audit needs at least {FEWEST_ROWS}.",
        )
    if len({row.tobytes() for row in audit.train.digests}) == 1:
        raise DataError(
            "All training rows are the same, so no row is known by itself.",
            hint="Check the column that train: in project.yaml reads.",
        )
    unlabelled = int((audit.train_labels < 0).sum())
    if unlabelled:
        raise DataError(
            f"{unlabelled} of {len(audit.train)} training rows have no label, and memorization is about a row's label.",
            hint="Give them a label or leave them out.",
        )


def _head(place: Workplace) -> tuple[Tensor, Tensor, dict[str, Option]]:
    """Return self-influences through the head, the outputs, and how it was done."""
    head = head_influence(place)
    if head is None:
        raise ModelError(
            "This model has no linear head, so self-influence through it is not defined.", hint="Ask for the tail."
        )
    scope = place.scope("head")
    parts = []
    for start, stop in slices(len(scope.rows), HEAD_BLOCK):
        rows = scope.rows.batch(start, stop)
        parts.append(head.on_itself(rows[FEATURES], rows["label"]))
        place.context.report(stop, len(scope.rows), "Scoring every row by its influence on itself")
    said: dict[str, Option] = {"curvature": "fisher" if head.is_exact else "factors", "damping": head.damping}
    return torch.cat(parts), scope.base_outputs, said


def _tail(place: Workplace) -> tuple[Tensor, Tensor, dict[str, Option]]:
    """Return self-influences through the tail under EK-FAC; every block is a chunk."""
    scope, method = place.scope("tail"), method_named("tail-ekfac")
    ekfac = place.curvature(scope, method)
    assert isinstance(ekfac, EkfacCurvature)
    assert isinstance(scope.network, GraphNetwork)
    parts = []
    for start, stop in slices(len(scope.rows), BATCH):
        key = f"tail-{start:010d}"
        kept = place.context.chunks.get(key)
        if kept is None:
            rows = scope.rows.batch(start, stop)
            kept = {"score": tail_self_influences(scope.network, ekfac, rows, damping=method.damping)}
            place.context.chunks.put(key, kept)
        parts.append(kept["score"])
        place.context.report(stop, len(scope.rows), "Scoring every row by its influence on itself")
    return torch.cat(parts), scope.base_outputs, {"curvature": "ekfac", "damping": method.damping}


@job(REFERENCE_KIND, version=VERSIONS[REFERENCE_KIND], fingerprints=fingerprints_of)
def retrain(context: JobContext, options: ReferenceOptions) -> dict[str, Option]:
    """Train networks on random halves and read off what every row's own presence changes. Each network is kept."""
    audit = load_audit(context.project)
    key = binding(audit, REFERENCE_KIND, options).key()
    record = find_run(audit.project, REFERENCE_KIND, key)
    if record is None:
        check_rows(audit)

        def on_report(fraction: float, note: str) -> None:
            context.report(fraction * options.networks, options.networks, note)

        retraining = retraining_of(audit, on_report)
        n_rows = len(audit.train)
        halves = half_subsets(n_rows, options.networks, options.seed)
        tasks = [Task(half, number, name=f"on half {number + 1}") for number, half in enumerate(halves)]
        found = reference_of(tasks, retraining.outcomes(tasks, report=on_report), n_rows)
        frame = pd.DataFrame({name: getattr(found, name) for name in Reference.__dataclass_fields__})
        record = save_run(
            audit.project, REFERENCE_KIND, key, options=asdict(options), summary={}, frames={"rows": frame}
        )
    return {"run": record.id}


def run(audit: Audit, options: MemorizationOptions | None = None, report: Report | None = None) -> Memorization:
    """Return the finished audit; run here and now where it is not stored."""
    chosen = options or MemorizationOptions()
    if stored(audit, chosen) is None:
        _run_here(audit, KIND, chosen, report)
    found = find(audit, chosen)
    assert found is not None
    return found


def run_reference(audit: Audit, options: ReferenceOptions, report: Report | None = None) -> None:
    """Retrain here and now, where it is not done."""
    if find_run(audit.project, REFERENCE_KIND, binding(audit, REFERENCE_KIND, options).key()) is None:
        _run_here(audit, REFERENCE_KIND, options, report)


def start(audit: Audit, *, reference: bool = False) -> str:
    """Queue the audit, or its reference by retraining, for the worker; return the id of the job."""
    if reference:
        return str(jobs.submit(REFERENCE_KIND, audit.folder, ReferenceOptions()))
    return str(jobs.submit(KIND, audit.folder, MemorizationOptions()))


def stored(audit: Audit, options: MemorizationOptions | None = None) -> RunRecord | None:
    """Return the finished run, or None."""
    return find_run(audit.project, KIND, binding(audit, KIND, options or MemorizationOptions()).key())


def finished(audit: Audit) -> tuple[str, ...]:
    """Return the ids of the finished run and of every reference of this project; nothing where rows are not scored."""
    own = run_id(KIND, binding(audit, KIND, MemorizationOptions()).key())
    if all(record.id != own for record in list_runs(audit.project, KIND)):
        return ()
    return (own, *(record.id for record in list_runs(audit.project, REFERENCE_KIND)))


def find(audit: Audit, options: MemorizationOptions | None = None) -> Memorization | None:
    """Return the finished audit with what retraining said, where it did; None where it was not run."""
    record = stored(audit, options)
    if record is None:
        return None
    frame = record.frame("rows")
    found = Memorization(
        run_id=record.id,
        ids=audit.train_ids,
        labels=audit.train_labels,
        score=frame["score"].to_numpy(np.float64),
        chance=frame["chance"].to_numpy(np.float64),
        loss=frame["loss"].to_numpy(np.float64),
        options={**record.options, **{name: record.summary[name] for name in ("curvature", "damping")}},
        seconds=cast("dict[str, float]", record.summary["seconds"]),
    )
    return replace(found, reference=find_reference(audit))


def find_reference(audit: Audit) -> Reference | None:
    """Return the newest reference by retraining of this model and these rows, or None."""
    for record in list_runs(audit.project, REFERENCE_KIND):
        options = ReferenceOptions(**record.options)  # type: ignore[arg-type]  # as it was stored
        if record.key == binding(audit, REFERENCE_KIND, options).key():
            frame = record.frame("rows")
            return Reference(**{name: frame[name].to_numpy() for name in Reference.__dataclass_fields__})
    return None


def write_scores(found: Memorization, path: Path) -> None:
    """Write id and score of every training row, higher = more memorized, as parquet."""
    table = pd.DataFrame({"id": list(found.ids), "score": found.score})
    write_bytes(path, table.to_parquet(index=False))


def _run_here(audit: Audit, kind: str, options: object, report: Report | None) -> None:
    def on_report(done: float, total: float, note: str) -> None:
        if report is not None:
            report(done / total if total else 0.0, note)

    jobs.run_here(kind, audit.folder, options, on_report)


def scope_named(name: str) -> MemorizationOptions:
    """Return the options of a scope. Raises AuditError that lists the scopes."""
    if name not in SCOPES:
        raise AuditError(f"Memorization has no method ‘{name}’.", hint=f"Methods: {', '.join(SCOPES)}.")
    return MemorizationOptions(cast("Literal['head', 'tail']", name))
