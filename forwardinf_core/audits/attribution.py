"""Which training rows helped this prediction, and which hurt it? (The paper's section 4, on the user's own model.)

An open ``Audit`` holds a project's model and rows. The head answers at once, in the process that asks; everything
longer is the job ``attribute``, the same in the foreground, in the worker and in tests. Finished answers are runs:
asked again about the same model, rows and options, they are read back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from forwardinf_core.audits import scopes
from forwardinf_core.audits.methods import Method, method_infos, method_named
from forwardinf_core.audits.preparation import Context, Opened, PrepareOptions, Workplace
from forwardinf_core.audits.queries import TEST, UPLOAD, Queries
from forwardinf_core.audits.records import (
    Attribution,
    CacheState,
    MethodInfo,
    MethodReport,
    Prediction,
    TestPredictions,
    WorkState,
)
from forwardinf_core.audits.scoring import Scored, ScoredGroup, averaged, score_group
from forwardinf_core.datasets.images import THUMBNAIL_TYPE, thumbnail
from forwardinf_core.datasets.rows import UNLABELLED, ImageRows
from forwardinf_core.errors import AuditError, DataError, ProjectError
from forwardinf_core.influence.objective import Batch, Classification
from forwardinf_core.influence.scores import ScoreTable
from forwardinf_core.influence.scoring import candidate_scores
from forwardinf_core.influence.update import SIDES, Direction
from forwardinf_core.jobs import run as jobs
from forwardinf_core.jobs.context import JobContext
from forwardinf_core.jobs.registry import job
from forwardinf_core.models.audit_model import AuditModel
from forwardinf_core.models.rows import ModelRows
from forwardinf_core.projects.demos.building import DemoFacts
from forwardinf_core.projects.demos.digits import demo_facts
from forwardinf_core.projects.load import Project, open_project, project_paths
from forwardinf_core.store.binding import Binding, Option
from forwardinf_core.store.chunks import ChunkStore
from forwardinf_core.store.files import sha256
from forwardinf_core.store.runs import RunRecord, find_run, open_run, save_run

KEPT_NUMBERS = 5_000_000  # numbers of output changes kept with a run: 20 MB
KIND = "attribution"
VERSION = 2  # rises when the same options would give other scores
GROUP = 20  # queries that share one read of the rows

Report = Callable[[float, str], None]


@dataclass(frozen=True)
class AttributeOptions:
    """Queries to attribute by one method; ``target`` None asks about each row's own label, else the predicted class."""

    queries: tuple[str, ...]
    method: Method
    target: int | None = None


class Audit:
    """An open project: predictions, attributions and pictures, for any number of threads."""

    def __init__(self, project: Project, model: AuditModel, train: ImageRows, test: ImageRows) -> None:
        self.project = project
        self.model = model
        self.train = train
        self.test = test
        self.queries = Queries(model, test, project.audit_dir / "uploads")
        self._opened = Opened()
        self._members: list[Audit] = []

    @property
    def project_name(self) -> str:
        return self.project.config.name

    @property
    def folder(self) -> Path:
        """The project's folder, as its jobs name it."""
        return self.project.root

    @property
    def task(self) -> str:
        return self.project.config.task

    @property
    def classes(self) -> tuple[str, ...]:
        return self.model.classes

    @cached_property
    def train_ids(self) -> tuple[str, ...]:
        return tuple(self.train.ids)

    @cached_property
    def test_ids(self) -> tuple[str, ...]:
        return tuple(self.test.ids)

    @property
    def train_labels(self) -> NDArray[np.int64]:
        return self.train.labels

    @cached_property
    def _facts(self) -> DemoFacts | None:
        return demo_facts(self.project)

    @property
    def origin(self) -> str:
        """Where the rows come from, in a sentence or a path."""
        return self._facts.origin if self._facts else str(self.project.root)

    def planted_truth(self) -> tuple[str, ...]:
        """Return what was planted in a demo's data, a sentence each; nothing for a person's own project."""
        return self._facts.sentences if self._facts else ()

    @cached_property
    def _planted(self) -> dict[str, str]:
        if self._facts is None:
            return {}
        wrong = {row.train_id: f"Planted wrong label: really ‘{row.true_label}’" for row in self._facts.wrong_labels}
        return wrong | {row.train_id: f"Planted copy of test row {row.test_id}" for row in self._facts.duplicates}

    def planted(self, position: int) -> str:
        """Return what was planted at a training row of a demo, or an empty text."""
        return self._planted.get(self.train_ids[position], "")

    def methods(self) -> list[MethodInfo]:
        """Return the ways to score that a person chooses from, with what is missing where one is not available."""
        return method_infos(has_head=self.model.head is not None, has_tail=self.model.tail is not None)

    @cached_property
    def _test_outputs(self) -> NDArray[np.float32]:
        rows = ModelRows(self.model, self.test, needs_labels=False)
        with torch.inference_mode():
            parts = []
            for start in range(0, len(rows), scopes.BATCH):
                batch = rows.batch(start, min(start + scopes.BATCH, len(rows)))
                parts.append(self.model.objective.outputs(self.model.module, batch))
        outputs: NDArray[np.float32] = torch.cat(parts).float().numpy()
        return outputs

    def predictions(self) -> TestPredictions:
        """Return what the model says of every test row; one forward pass over the test set, once per process."""
        outputs = torch.from_numpy(self._test_outputs)
        probabilities = outputs.softmax(1)
        labels = torch.from_numpy(self.test.labels.copy())
        losses = self.model.objective.losses(outputs, {"label": labels.clamp_min(0)})
        losses = torch.where(labels >= 0, losses, torch.nan)
        confidence, prediction = probabilities.max(1)
        return TestPredictions(prediction.numpy(), confidence.numpy(), self.test.labels, losses.float().numpy())

    def predict(self, query: str) -> Prediction:
        """Return what the model says of one query, a test row or an uploaded image."""
        label = self.queries.label(query)
        if query.startswith(TEST):
            outputs = torch.from_numpy(self._test_outputs[self.test.position(query.removeprefix(TEST))])
        else:
            with torch.inference_mode():
                outputs = self.model.objective.outputs(self.model.module, self.queries.batch(query, 0))[0].float()
        probabilities = outputs.softmax(0)
        prediction = int(probabilities.argmax())
        return Prediction(probabilities.numpy(), prediction, float(probabilities[prediction]), label)

    def target_of(self, query: str, target: int | None) -> int:
        """Return the class a question is about: the one given, else the row's label, else the predicted class."""
        if target is None:
            label = self.queries.label(query)
            return label if label != UNLABELLED else self.predict(query).prediction
        if not 0 <= target < len(self.classes):
            raise DataError(f"The model has no class {target}.", hint=f"It has {len(self.classes)}, numbered from 0.")
        return target

    def attribute(self, query: str, *, method: str | Method = "head", target: int | None = None) -> Attribution:
        """Return the answer: read back where it is stored, else computed here and now.

        Instant for the head once its cache is there. For longer methods use ``attribute_job`` where someone waits.
        """
        chosen = method_named(method) if isinstance(method, str) else method
        return self.attribute_all([query], chosen, target)[0]

    def attribute_all(
        self, queries: Sequence[str], method: Method, target: int | None, report: Report | None = None
    ) -> list[Attribution]:
        """Return the answers to several queries by one method; what is not stored is computed here and now."""
        if self.is_quick(method):
            records = self.answer(queries, method, target, _AtOnce())
        else:
            if any(self._stored(query, method, self.target_of(query, target)) is None for query in queries):

                def on_report(done: float, total: float, note: str) -> None:
                    if report is not None:
                        report(done / total if total else 0.0, note)

                jobs.run_here(
                    "attribute", self.project.root, AttributeOptions(tuple(queries), method, target), on_report
                )
            records = self.answer(queries, method, target, _AtOnce())
        return [self._opened_run(record) for record in records]

    def is_quick(self, method: Method) -> bool:
        """Say whether a method answers in milliseconds: it moves the head, and all it needs is on disk."""
        if method.scope != "head" or method.average or not self.is_ready("head"):
            return False
        place = self.workplace(_AtOnce())
        return place.is_fitted(place.scope("head"), method)

    def members(self) -> list[Audit]:
        """Return an audit for each checkpoint that project.yaml lists; same rows, other weights."""
        checkpoints = self.project.config.checkpoints
        if not checkpoints:
            raise ProjectError(
                "This project lists no checkpoints to average over.",
                hint="List their weights as checkpoints: in project.yaml, or ask without averaging.",
            )
        with self._opened.lock:
            if not self._members:
                models = [self.project.load_model(checkpoint=name) for name in checkpoints]
                self._members = [Audit(self.project, model, self.train, self.test) for model in models]
            return self._members

    def answer(self, queries: Sequence[str], method: Method, target: int | None, context: Context) -> list[RunRecord]:
        """Return one run for each query, in order; computes what is not stored, in groups that share a read."""
        asked = {query: self.target_of(query, target) for query in queries}
        missing = [query for query in asked if self._stored(query, method, asked[query]) is None]
        place = self.workplace(context)
        for start in range(0, len(missing), GROUP):
            group = missing[start : start + GROUP]
            batches = [self.queries.batch(query, asked[query]) for query in group]
            result = self._averaged(method, batches, context) if method.average else score_group(place, method, batches)
            for query, scored in zip(group, result.queries, strict=True):
                self._save(query, asked[query], method, scored, result)
        found = [self._stored(query, method, asked[query]) for query in queries]
        assert all(record is not None for record in found)
        return [record for record in found if record is not None]

    def _averaged(self, method: Method, batches: Sequence[Batch], context: Context) -> ScoredGroup:
        return averaged([score_group(one.workplace(context), method, batches) for one in self.members()])

    def attribute_job(self, query: str, method: str, target: int | None) -> str | None:
        """Start the work on an answer, where it is not stored, and return its id for ``progress``."""
        chosen = method_named(method)
        if self._stored(query, chosen, self.target_of(query, target)) is not None:
            return None
        return str(jobs.submit("attribute", self.project.root, AttributeOptions((query,), chosen, target)))

    def progress(self, work: str) -> WorkState:
        """Return how far the work is."""
        status = jobs.status(int(work))
        fault = None
        if status.state in ("failed", "paused", "cancelled"):
            fault = AuditError(status.error or f"The work was {status.state}.", hint=status.hint)
        fraction = status.done / status.total if status.total else 0.0
        return WorkState(status.state == "done", min(fraction, 1.0), status.note, status.seconds_left, fault)

    def stop(self, work: str) -> None:
        """Stop work on an answer that nobody waits for; what is finished of it stays."""
        jobs.cancel(int(work))

    def candidate_scores(self, attribution: Attribution, position: int) -> NDArray[np.float32]:
        """Return the score the row would have under every label, (n_classes,): the same passes, no new one.

        Raises DataError for a row whose change of outputs was too weak to be kept (many classes and rows only).
        """
        record = open_run(self.project, attribution.run_id)
        if attribution.method.options["average"]:
            raise DataError("Averaged scores keep no outputs.", hint="Ask without averaging to try other labels.")
        kept = record.tensors("changes")
        places = torch.nonzero(kept["positions"] == position).flatten()
        if not len(places):
            raise DataError(
                f"For the training row {self.train_ids[position]} only its score was kept.",
                hint=f"Other labels can be tried on the {len(kept['positions'])} rows with the strongest effect.",
            )
        direction = cast("Direction", record.summary["direction"])
        changes = [kept[f"change{side}"][places] for side in range(len(SIDES[direction]))]
        base = self._outputs_of(attribution.method.scope)[position : position + 1]
        objective = self.model.objective
        assert isinstance(objective, Classification)
        scores: NDArray[np.float32] = candidate_scores(objective, base, changes, direction)[0].numpy()
        return scores

    def add_upload(self, data: bytes, name: str) -> str:
        """Keep an uploaded image and return its query. Raises DataError, in a sentence, for what is no image."""
        return self.queries.add_upload(data, name)

    def shown(self, query: str) -> bytes:
        """Return the query as the model sees it, as PNG."""
        return self.queries.shown(query)

    def thumbnail(self, split: str, key: str) -> tuple[bytes, str]:
        """Return an encoded thumbnail and its media type; ``key`` is a position, or the key of an upload."""
        if split == "upload":
            return thumbnail(self.queries.image(f"{UPLOAD}{key}")), THUMBNAIL_TYPE
        rows = {"train": self.train, "test": self.test}[split]
        return thumbnail(rows.image(int(key))), THUMBNAIL_TYPE

    def caches(self) -> tuple[CacheState, ...]:
        """Return what is computed already."""
        names = [name for name, has in (("head", self.model.head), ("tail", self.model.tail)) if has]
        states = []
        for name in [*names, "full"]:
            folder = scopes.scope_folder(self.project.audit_dir, self.model, self.train, name)
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0
            states.append(CacheState(name, self.is_ready(name), size))
        return tuple(states)

    def is_ready(self, scope: str) -> bool:
        """Say whether a scope's cache is complete."""
        return scopes.is_cached(self.project.audit_dir, self.model, self.train, scope)

    def workplace(self, context: Context) -> Workplace:
        """Return where engine work on this audit happens."""
        return Workplace(self.model, self.train, self.project.audit_dir, context, self._opened)

    def _outputs_of(self, scope: str) -> Tensor:
        return self.workplace(_AtOnce()).scope("head" if scope == "cascade" else scope).base_outputs

    def _binding(self, query: str, method: Method, target: int) -> Binding:
        split, _, key = query.partition(":")
        fingerprints = {"model": self.model.fingerprint, "train": self.train.fingerprint}
        if method.average:
            fingerprints |= {f"checkpoint-{n}": one.model.fingerprint for n, one in enumerate(self.members())}
        fingerprints["query"] = f"{self.test.fingerprint}:{key}" if split == "test" else key
        return Binding(KIND, fingerprints, {"query": query, "target": target, **method.options()}, VERSION)

    def _stored(self, query: str, method: Method, target: int) -> RunRecord | None:
        return find_run(self.project, KIND, self._binding(query, method, target).key())

    def _save(self, query: str, target: int, method: Method, scored: Scored, group: ScoredGroup) -> RunRecord:
        table = scored.table
        columns = {"id": self.train_ids, "score": table.score, "base_loss": table.base_loss}
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
            self.project,
            KIND,
            self._binding(query, method, target).key(),
            options={"query": query, "target": target, **method.options()},
            summary=summary,
            frames={"scores": pd.DataFrame(columns)},
            tensors={"changes": kept_changes(scored)} if scored.changes else {},
        )

    def _opened_run(self, record: RunRecord) -> Attribution:
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
            prediction=self.predict(query),
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


class _AtOnce:
    """The context of work that takes milliseconds: nothing to keep, nobody to tell."""

    @property
    def chunks(self) -> ChunkStore:
        raise AssertionError("quick work keeps no chunks")

    def report(self, done: float, total: float, note: str = "") -> None:
        """Tell nobody."""


_LOADED: dict[Path, tuple[str, Audit]] = {}
_LOADING = threading.Lock()


def load_audit(project_ref: str | Path, *, allow_code: bool = False) -> Audit:
    """Return the audit of a project; the same one again in this process while none of the project's files change."""
    project = open_project(project_ref)
    stamp = stamp_of(project)
    with _LOADING:
        known = _LOADED.get(project.root)
        if known is not None and known[0] == stamp:
            return known[1]
        model = project.load_model(allow_code=allow_code)
        audit = Audit(project, model, project.train_rows(model.classes), project.test_rows(model.classes))
        _LOADED[project.root] = (stamp, audit)
        return audit


def stamp_of(project: Project) -> str:
    """Return a text that changes whenever a file of the project does: paths, sizes and times of change."""
    parts = []
    for name in ["project.yaml", *(path for _, path in project_paths(project.config))]:
        path = project.root / name
        files = sorted(found for found in path.rglob("*") if found.is_file()) if path.is_dir() else [path]
        for file in files:
            if file.exists():
                found = file.stat()
                parts.append(f"{file} {found.st_size} {found.st_mtime_ns}")
    return sha256("\n".join(parts).encode())


def fingerprints_of(project: Path, _options: object) -> dict[str, str]:
    """Return what an attribution of this project reads."""
    audit = load_audit(project)
    return {"model": audit.model.fingerprint, "train": audit.train.fingerprint, "test": audit.test.fingerprint}


@job("attribute", version=VERSION, fingerprints=fingerprints_of)
def attribute_queries(context: JobContext, options: AttributeOptions) -> dict[str, Option]:
    """Attribute queries, making caches and curvature first where they are missing. Returns the ids of the runs."""
    audit = load_audit(context.project)
    return {"runs": [record.id for record in audit.answer(options.queries, options.method, options.target, context)]}


@job("prepare", version=VERSION, fingerprints=fingerprints_of)
def prepare(context: JobContext, options: PrepareOptions) -> dict[str, Option]:
    """Make the caches and fit the curvatures that later answers need."""
    place = load_audit(context.project).workplace(context)
    for name in options.scopes:
        place.scope(name)
    for method in options.methods:
        place.curvature(place.scope(method.scope), method)
    return {"scopes": list(options.scopes), "methods": [method.name for method in options.methods]}
