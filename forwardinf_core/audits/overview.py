"""What is this project? Sizes, classes, accuracy, the worst confusions, and what is already computed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.records import CacheState, TestPredictions

EXAMPLES_PER_CONFUSION = 12


@dataclass(frozen=True, slots=True)
class Confusion:
    """Test rows of one class that the model takes for another."""

    label: int
    prediction: int
    count: int
    examples: tuple[str, ...]  # test ids, the most confident mistake first


@dataclass(frozen=True, slots=True)
class ClassLine:
    """One class: rows in each split and the share of its test rows the model gets right (NaN where it has none)."""

    name: str
    n_train: int
    n_test: int
    accuracy: float


@dataclass(frozen=True, slots=True)
class Overview:
    """The project in one screen. ``accuracy_interval`` is the 95% Wilson interval."""

    name: str
    origin: str
    task: str
    n_train: int
    n_test: int
    classes: tuple[str, ...]
    accuracy: float
    accuracy_interval: tuple[float, float]
    class_lines: tuple[ClassLine, ...]
    confusions: tuple[Confusion, ...]
    caches: tuple[CacheState, ...]
    planted: tuple[str, ...]


def summarise(audit: Audit) -> Overview:
    """Return the overview of an open audit; predicts the test rows if that has not been done."""
    predictions = audit.predictions()
    labelled = predictions.label >= 0
    correct = int((predictions.prediction == predictions.label)[labelled].sum())
    total = int(labelled.sum())
    interval = binomtest(correct, total).proportion_ci(method="wilson") if total else None
    return Overview(
        name=audit.project_name,
        origin=audit.origin,
        task=audit.task,
        n_train=len(audit.train_ids),
        n_test=len(audit.test_ids),
        classes=audit.classes,
        accuracy=correct / total if total else float("nan"),
        accuracy_interval=(interval.low, interval.high) if interval else (float("nan"), float("nan")),
        class_lines=class_lines(audit.classes, audit.train_labels, predictions),
        confusions=confusions(predictions, audit.test_ids),
        caches=audit.caches(),
        planted=audit.planted_truth(),
    )


def class_lines(
    classes: tuple[str, ...], train_labels: NDArray[np.int64], predictions: TestPredictions
) -> tuple[ClassLine, ...]:
    """Return one line per class, in the order of the model's outputs."""
    lines = []
    for code, name in enumerate(classes):
        rows = predictions.label == code
        n_test = int(rows.sum())
        right = float((predictions.prediction[rows] == code).mean()) if n_test else float("nan")
        lines.append(ClassLine(name, int((train_labels == code).sum()), n_test, right))
    return tuple(lines)


def confusions(predictions: TestPredictions, test_ids: tuple[str, ...]) -> tuple[Confusion, ...]:
    """Return the pairs (label, prediction) that differ, most frequent first, then by code."""
    wrong = np.flatnonzero((predictions.label >= 0) & (predictions.prediction != predictions.label))
    pairs: dict[tuple[int, int], list[int]] = {}
    for position in wrong[np.argsort(-predictions.confidence[wrong], kind="stable")]:
        pairs.setdefault((int(predictions.label[position]), int(predictions.prediction[position])), []).append(position)
    return tuple(
        Confusion(label, prediction, len(found), tuple(test_ids[p] for p in found[:EXAMPLES_PER_CONFUSION]))
        for (label, prediction), found in sorted(pairs.items(), key=lambda item: (-len(item[1]), item[0]))
    )
