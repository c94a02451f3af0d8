"""What a diffusion project is: sizes, classes, the model's shape, what is computed, and what a demo has planted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from forwardinf_core.audits.generation.tracing import GenerationAudit
from forwardinf_core.datasets.rows import UNLABELLED
from forwardinf_core.projects.demos import painter
from forwardinf_core.projects.demos.building import read_mark

GROUPS_AT_MOST = 1_000  # values of a column people group by; ids and captions have as many as there are rows
CLASS = "class"
COPY_OF = "planted_copy_of"
NO_VALUE = "none"


@dataclass(frozen=True, slots=True)
class ClassCount:
    """One class: how many images of each split carry it, and the first training row that does (−1 = none)."""

    name: str
    n_train: int
    n_test: int
    first: int


@dataclass(frozen=True, slots=True)
class Facts:
    """A diffusion project in one screen. ``size`` are the pixels, or latents, that are noised: width and height."""

    name: str
    origin: str
    n_train: int
    n_test: int
    n_parameters: int
    n_timesteps: int
    size: tuple[int, int]
    channels: int
    classes: tuple[ClassCount, ...]
    planted: tuple[str, ...]
    cache_bytes: int


def facts_of(audit: GenerationAudit) -> Facts:
    """Return what is known of an open project without running its model."""
    channels, height, width = audit.model.codec.shape
    caches = audit.project.audit_dir / "caches"
    return Facts(
        name=audit.project_name,
        origin=painter.ORIGIN if is_demo(audit) else str(audit.project.root),
        n_train=len(audit.train),
        n_test=len(audit.test),
        n_parameters=sum(value.numel() for value in audit.model.module.parameters()),
        n_timesteps=audit.model.n_timesteps,
        size=(width, height),
        channels=channels,
        classes=class_counts(audit),
        planted=painter.planted_sentences() if is_demo(audit) else (),
        cache_bytes=sum(path.stat().st_size for path in caches.rglob("*") if path.is_file()) if caches.is_dir() else 0,
    )


def class_counts(audit: GenerationAudit) -> tuple[ClassCount, ...]:
    """Return a line per class of the training rows, in their order; nothing where rows have no classes."""
    train, test = audit.train.labels, audit.test.labels
    lines = []
    for code, name in enumerate(audit.train.classes):
        rows = np.flatnonzero(train == code)
        lines.append(ClassCount(name, len(rows), int((test == code).sum()), int(rows[0]) if len(rows) else -1))
    return tuple(lines)


def is_demo(audit: GenerationAudit) -> bool:
    """Say whether this is the demo that comes with the program."""
    mark = read_mark(audit.project.root)
    return mark is not None and mark[0] == painter.DEMO


@lru_cache(maxsize=4)
def planted_copies(audit: GenerationAudit) -> dict[int, str]:
    """Return the demo's planted copies and what they copy, by position; nothing for a person's own project.

    The original is among them: it stands there once more.
    """
    if not is_demo(audit):
        return {}
    copies = {place: str(name) for place, name in enumerate(audit.train.column(COPY_OF).tolist()) if name}
    originals = {audit.train.position(name): name for name in set(copies.values())}
    return copies | originals


def planted(audit: GenerationAudit, position: int) -> str:
    """Return what was planted at a training row of the demo, or an empty text."""
    original = planted_copies(audit).get(position)
    if original is None:
        return ""
    if audit.train_ids[position] == original:
        return "The original of planted copies"
    return f"Planted copy of {original}"


@lru_cache(maxsize=4)
def group_columns(audit: GenerationAudit) -> tuple[str, ...]:
    """Return what training rows can be grouped by: their class, and columns with fewer values than rows."""
    found = [CLASS] if len(audit.train.classes) > 1 else []
    labels = audit.train.labels.tolist()
    for name in audit.train.columns:
        values = audit.train.column(name).tolist()
        if any(isinstance(value, (list, np.ndarray)) for value in values):  # several captions a row
            continue
        n_values = len(set(values))
        is_class = n_values == len(set(labels)) == len(set(zip(values, labels, strict=True)))  # under its own name
        if 1 < n_values <= min(GROUPS_AT_MOST, len(audit.train) // 2) and not is_class:
            found.append(name)
    return tuple(found)


@lru_cache(maxsize=8)
def group_values(audit: GenerationAudit, column: str) -> tuple[str, ...]:
    """Return the value of every training row in a column, or its class. Raises DataError where there is no such."""
    if column == CLASS and CLASS not in audit.train.columns:
        classes = audit.train.classes
        return tuple(classes[code] if code != UNLABELLED else NO_VALUE for code in audit.train.labels.tolist())
    return tuple(
        str(value) if value is not None and value == value else NO_VALUE for value in audit.train.column(column)
    )
