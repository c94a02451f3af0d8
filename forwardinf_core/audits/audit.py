"""An open project: its model and rows, what the model says of them, and the questions a person asks.

An answer is computed at once where that takes milliseconds, and by the job ``attribute`` where it takes longer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forwardinf_core.audits import scopes
from forwardinf_core.audits.attribution import AttributeOptions, answer, candidate_scores, opened, stored
from forwardinf_core.audits.context import AtOnce, Context
from forwardinf_core.audits.methods import Method, method_infos, method_named
from forwardinf_core.audits.preparation import Opened, Workplace
from forwardinf_core.audits.queries import TEST, UPLOAD, Queries
from forwardinf_core.audits.records import Attribution, CacheState, MethodInfo, Prediction, TestPredictions, WorkState
from forwardinf_core.datasets.images import THUMBNAIL_TYPE, thumbnail
from forwardinf_core.datasets.rows import UNLABELLED, Content, DataRows, images_of, texts_of
from forwardinf_core.errors import AuditError, DataError, ProjectError
from forwardinf_core.jobs import run as jobs
from forwardinf_core.models.audit_model import AuditModel
from forwardinf_core.models.rows import ModelRows
from forwardinf_core.projects.demos.building import DemoFacts
from forwardinf_core.projects.demos.digits import demo_facts
from forwardinf_core.projects.load import Project

Report = Callable[[float, str], None]
PREDICTED = -1  # as a target: the class the model predicts, as the screen asks at first


class Audit:
    """An open project: predictions, attributions and pictures, for any number of threads."""

    def __init__(self, project: Project, model: AuditModel, train: DataRows, test: DataRows) -> None:
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
    def content(self) -> Content:
        """Say what a row is."""
        return self.model.content

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
        """Return the class a question is about: the one given (PREDICTED too), else label, else prediction."""
        if target == PREDICTED:
            return self.predict(query).prediction
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
            records = answer(self, queries, method, target, AtOnce())
        else:
            if any(stored(self, query, method, self.target_of(query, target)) is None for query in queries):

                def on_report(done: float, total: float, note: str) -> None:
                    if report is not None:
                        report(done / total if total else 0.0, note)

                jobs.run_here(
                    "attribute", self.project.root, AttributeOptions(tuple(queries), method, target), on_report
                )
            records = answer(self, queries, method, target, AtOnce())
        return [opened(self, record) for record in records]

    def is_quick(self, method: Method) -> bool:
        """Say whether a method answers in milliseconds: it moves the head, and all it needs is on disk."""
        if method.scope != "head" or method.average or not self.is_ready("head"):
            return False
        place = self.workplace(AtOnce())
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

    def attribute_job(self, query: str, method: str, target: int | None) -> str | None:
        """Return the id, for ``progress``, of the work on an answer that is not stored; begun where there is none yet.

        Work that has stopped is not begun again by asking for it: ``go_on`` does that.
        """
        chosen = method_named(method)
        if stored(self, query, chosen, self.target_of(query, target)) is not None:
            return None
        return str(jobs.submit_once("attribute", self.project.root, AttributeOptions((query,), chosen, target)).id)

    def progress(self, work: str) -> WorkState:
        """Return how far the work is."""
        status = jobs.status(int(work))
        fault = None
        if status.state in ("failed", "paused", "cancelled"):
            fault = AuditError(status.error or f"The work was {status.state}.", hint=status.hint)
        fraction = status.done / status.total if status.total else 0.0
        return WorkState(status.state == "done", min(fraction, 1.0), status.note, status.seconds_left, fault)

    def is_at_hand(self, query: str, method: str, target: int | None) -> bool:
        """Say whether an answer is stored, or work on it has begun."""
        chosen = method_named(method)
        if stored(self, query, chosen, self.target_of(query, target)) is not None:
            return True
        found = jobs.find("attribute", self.project.root, AttributeOptions((query,), chosen, target))
        return found is not None and found.state != "done"

    def go_on(self, work: str) -> None:
        """Go on with work that has stopped, from its last finished piece."""
        jobs.retry(int(work))

    def stop(self, work: str) -> None:
        """Stop work on an answer that nobody waits for; what is finished of it stays."""
        jobs.cancel(int(work))

    def candidate_scores(self, attribution: Attribution, position: int) -> NDArray[np.float32]:
        """Return the score the row would have under every label, (n_classes,): the same passes, no new one."""
        return candidate_scores(self, attribution, position)

    def add_upload(self, data: bytes, name: str) -> str:
        """Keep an uploaded image or text file and return its query. Raises DataError, in a sentence, for another."""
        return self.queries.add_upload(data, name)

    def add_text(self, text: str) -> str:
        """Keep a text that was typed and return its query. Raises DataError where it is empty or too long."""
        return self.queries.add_text(text)

    def text(self, split: str, position: int) -> str:
        """Return the text of a training or test row, whole. Raises DataError where rows are no texts."""
        return texts_of({"train": self.train, "test": self.test}[split]).text(position)

    def text_of(self, query: str) -> str:
        """Return the text of a query, whole."""
        return self.queries.text(query)

    def characters_read(self, text: str) -> int:
        """Return how many characters of a text the model reads."""
        return len(self.model.encoding.read(text))

    def notes(self, query: str) -> tuple[str, ...]:
        """Return what was done to an uploaded image before the model saw it, a sentence each."""
        return self.queries.notes(query)

    def shown(self, query: str) -> bytes:
        """Return the query as the model sees it, as PNG."""
        return self.queries.shown(query)

    def thumbnail(self, split: str, key: str) -> tuple[bytes, str]:
        """Return an encoded thumbnail and its media type; ``key`` is a position, or the key of an upload."""
        if split == "upload":
            return thumbnail(self.queries.image(f"{UPLOAD}{key}")), THUMBNAIL_TYPE
        rows = {"train": self.train, "test": self.test}[split]
        return thumbnail(images_of(rows).image(int(key))), THUMBNAIL_TYPE

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

    def outputs_of(self, scope: str) -> Tensor:
        """Return the unchanged model's outputs of every training row, (n, …), as a scope keeps them."""
        return self.workplace(AtOnce()).scope("head" if scope == "cascade" else scope).base_outputs
