"""Everything that is wrong with a project, told before a long run, all at once; and what a run costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from forwardinf_core.datasets.rows import DataRows
from forwardinf_core.datasets.source import RowSource
from forwardinf_core.errors import DataError, ModelError
from forwardinf_core.influence.anatomy import NO_HEAD, NO_HEAD_HINT, NO_TAIL, NO_TAIL_HINT
from forwardinf_core.models.audit_model import AuditModel
from forwardinf_core.models.structure import graph_of
from forwardinf_core.projects.content_check import IDS_NAMED, check_content
from forwardinf_core.projects.findings import Findings, Problem
from forwardinf_core.projects.forecast import Forecast, forecast, labelled_batch
from forwardinf_core.projects.load import Project, locate, project_paths
from forwardinf_core.projects.places import ALLOW_OUTSIDE, inside, is_set
from forwardinf_core.projects.schema import ProjectConfig, mistakes
from forwardinf_core.projects.yaml_file import read_yaml

Report = Callable[[float, str], None]

TRIED_ROWS = 200  # rows of the test set the model is tried on
FEWEST_TRIED = 50  # below it an accuracy says too little


@dataclass(frozen=True, slots=True)
class SetFacts:
    """One set of rows. ``per_class`` counts labels in the order of the classes."""

    n_rows: int
    n_unlabelled: int
    n_decoded: int  # rows that were read
    per_class: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ProjectFacts:
    """What was found. The model's entries are None where it could not be loaded."""

    name: str
    task: str
    classes: tuple[str, ...]
    sets: dict[str, SetFacts]  # train, test, trusted
    model_kind: str
    n_parameters: int | None
    head: str | None
    tail: tuple[str, ...] | None
    accuracy: float | None  # over n_tried labelled test rows
    n_tried: int


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The result of a check. ``facts`` and ``forecast`` are None where it did not come so far."""

    problems: tuple[Problem, ...]
    facts: ProjectFacts | None
    forecast: Forecast | None

    @property
    def is_ready(self) -> bool:
        """Say whether audits can run: there are no errors, though there may be warnings."""
        return not any(problem.level == "error" for problem in self.problems)


def check_project(
    folder_or_demo: str | Path, *, allow_code: bool = False, all_images: bool = False, report: Report | None = None
) -> CheckReport:
    """Look at everything a project names and return all that is wrong. Nothing is written.

    Every row of a set up to 5,000 is read, 500 evenly spread ones of a larger one; ``all_images`` reads all. What
    ``report`` raises ends the check. Cost: decoding, and about ten batches through the model.
    """
    tell = report or (lambda _fraction, _note: None)
    found = Findings()
    tell(0.0, "Reading project.yaml")
    project = _open(folder_or_demo, found)
    if project is None:
        return CheckReport(tuple(found.problems), None, None)
    tell(0.05, "Loading the model")
    model = _load_model(project, found, allow_code=allow_code)
    sets, facts = _check_sets(project, model, found, all_images=all_images, tell=tell)
    cost, accuracy, n_tried = None, None, 0
    if model is not None:
        tell(0.9, "Trying the model")
        accuracy, n_tried = _try_model(model, sets.get("test"), found)
        if "train" in sets:
            with found.trying("model"):
                cost = forecast(model, sets["train"])
                _check_room(project, cost, found)
    tell(1.0, "Checked")
    classes = model.classes if model else next((rows.classes for rows in sets.values()), ())
    summary = ProjectFacts(
        name=project.config.name,
        task=project.config.task,
        classes=classes,
        sets=facts,
        model_kind=project.config.model.kind,
        n_parameters=sum(p.numel() for p in model.module.parameters()) if model else None,
        head=model.head if model else None,
        tail=model.tail if model else None,
        accuracy=accuracy,
        n_tried=n_tried,
    )
    return CheckReport(tuple(found.problems), summary, cost)


def _open(folder_or_demo: str | Path, found: Findings) -> Project | None:
    """Open the project, or record all mistakes in project.yaml."""
    with found.trying("project.yaml"):
        path = locate(folder_or_demo)
        content = read_yaml(path)
        wrong = mistakes(content, path.name)
        for error in wrong:
            found.add("error", "project.yaml", error.title, error.hint)
        if wrong:
            return None
        project = Project(path.parent, ProjectConfig.model_validate(content), is_set(ALLOW_OUTSIDE))
        for field, given in project_paths(project.config):
            with found.trying(field):
                inside(project.root, given, field, allow_outside=project.allow_outside)
        return None if found.problems else project
    return None


def _load_model(project: Project, found: Findings, *, allow_code: bool) -> AuditModel | None:
    model = None
    with found.trying("model"):
        model = project.load_model(allow_code=allow_code)
    if model is None:
        return None
    for index, checkpoint in enumerate(project.config.checkpoints):
        with found.trying(f"checkpoints.{index}"):
            project.load_model(allow_code=allow_code, checkpoint=checkpoint)
    _check_structure(model, found)
    return model


def _check_structure(model: AuditModel, found: Findings) -> None:
    """Warn where the fast methods, on head and tail, cannot be used, and say why."""
    if model.kind != "baseline":
        try:
            graph_of(model.module, model.objective, model.inputs)
        except ModelError as error:
            found.add("warning", "model", error.title, error.hint)
            return
    if model.head is None:
        found.add("warning", "model.head", NO_HEAD, NO_HEAD_HINT)
    if model.tail is None:
        found.add("warning", "model.tail", NO_TAIL, NO_TAIL_HINT)


def _check_sets(
    project: Project, model: AuditModel | None, found: Findings, *, all_images: bool, tell: Report
) -> tuple[dict[str, DataRows], dict[str, SetFacts]]:
    config = project.config
    classes = model.classes if model else config.model.classes
    sources = {"train": config.train, "test": config.test, "trusted": config.trusted}
    sets: dict[str, DataRows] = {}
    facts: dict[str, SetFacts] = {}
    for name, source in sources.items():
        if source is None:
            continue
        with found.trying(name):
            rows = project.open_rows(source, classes)

            def tell_part(part: float, note: str, begin: float = 0.1 + 0.8 * len(sets) / 3) -> None:
                tell(begin + 0.8 / 3 * part, note)

            n_decoded = check_content(name, rows, model, found, all_rows=all_images, tell=tell_part)
            facts[name] = _check_labels(name, rows, n_decoded, found)
            sets[name] = rows
    if config.reference_label is not None and "train" in sets:
        with found.trying("reference_label"):
            sets["train"].labels_in(config.reference_label)
    _check_overlap(config.train, config.test, sets, found)
    return sets, facts


def _check_labels(name: str, rows: DataRows, n_decoded: int, found: Findings) -> SetFacts:
    n_rows, n_classes = len(rows), len(rows.classes)
    counts: NDArray[np.int64] = np.bincount(rows.labels[rows.labels >= 0], minlength=n_classes)
    n_unlabelled = int((rows.labels < 0).sum())
    if n_unlabelled == n_rows and name != "test":
        found.add("error", name, f"No row of {name} has a label.", f"Name the column: {name}.label.")
    elif n_unlabelled:
        found.add(
            "warning",
            name,
            f"{n_unlabelled:,} of {n_rows:,} rows of {name} have no label.",
            "They are left out of scores.",
        )
    empty = [rows.classes[index] for index in np.flatnonzero(counts == 0)] if n_unlabelled < n_rows else []
    if empty and name == "train":
        named = ", ".join(empty[:IDS_NAMED]) + (", …" if len(empty) > IDS_NAMED else "")
        found.add("warning", name, f"{len(empty)} of {n_classes} classes have no row in train: {named}.", "")
    return SetFacts(n_rows, n_unlabelled, n_decoded, tuple(int(count) for count in counts))


def _check_overlap(train: RowSource, test: RowSource, sets: dict[str, DataRows], found: Findings) -> None:
    if (train.path, train.split) == (test.path, test.split):
        found.add(
            "warning",
            "test",
            f"train and test are the same rows ({test.path}).",
            "Every query then finds itself; name a file of rows that were not trained on.",
        )
    elif "train" in sets and "test" in sets and train.id and test.id:
        both = sorted(set(sets["train"].ids) & set(sets["test"].ids))
        if both:
            found.add(
                "warning",
                "test",
                f"{len(both):,} ids are in train and in test: {', '.join(both[:IDS_NAMED])}.",
                "Where they are the same rows, the test set leaks into training; otherwise give them other ids.",
            )


def _try_model(model: AuditModel, test: DataRows | None, found: Findings) -> tuple[float | None, int]:
    """Predict some test rows; record NaN and an accuracy that cannot be meant. Return accuracy and rows tried."""
    if test is None:
        return None, 0
    labelled = np.flatnonzero(test.labels >= 0)
    positions = labelled[np.linspace(0, len(labelled) - 1, min(TRIED_ROWS, len(labelled))).astype(np.int64)]
    if len(positions) == 0:
        return None, 0
    try:
        batch = labelled_batch(model, test, positions)
    except DataError:
        return None, 0  # broken images are told of already
    with torch.inference_mode():
        outputs = model.objective.outputs(model.module, batch)
        losses = model.objective.losses(outputs, batch)
    if not outputs.isfinite().all() or not losses.isfinite().all():
        bad = int((~losses.isfinite()).sum())
        found.add(
            "error",
            "model",
            f"The loss of {bad} of {len(positions)} test rows is not a number.",
            "Check mean and std." if model.content == "image" else "Check the weights.",
        )
        return None, len(positions)
    accuracy = float((outputs.argmax(1) == batch["label"]).float().mean())
    if len(positions) >= FEWEST_TRIED and accuracy < min(2 / len(model.classes), 0.6):
        found.add(
            "warning",
            "model",
            f"The model is right on {100 * accuracy:.0f}% of {len(positions)} test rows, hardly more than by chance.",
            "Are model.classes in output order"
            + (", and mean, std and size those of the training?" if model.content == "image" else "?"),
        )
    return accuracy, len(positions)


def _check_room(project: Project, cost: Forecast, found: Findings) -> None:
    free = psutil.disk_usage(str(project.root)).free
    if cost.disk_bytes > free:
        found.add(
            "warning",
            "project.yaml",
            f"Caches will take about {cost.disk_bytes / 1e9:.1f} GB and {free / 1e9:.1f} GB are free.",
            f"Make room on the disk of {project.audit_dir}.",
        )
    available = psutil.virtual_memory().available
    if cost.memory_bytes > available:
        found.add(
            "warning",
            "model",
            f"A run needs about {cost.memory_bytes / 1e9:.1f} GB of memory and {available / 1e9:.1f} GB are free.",
            "Close other programs, or use a smaller model.",
        )
