"""Rows drawn from a project for the verification of the hypothesis: seeded, as bytes, with their ids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from forwardinf_core.audits.context import Context
from forwardinf_core.audits.fitting import kept_pixels
from forwardinf_core.datasets.rows import UNLABELLED, DataRows
from forwardinf_core.errors import DataError
from forwardinf_core.models.preprocessing import PixelPreprocessing
from forwardinf_core.projects.load import Project
from forwardinf_core.verification.retraining import Examples

QUERIES_PER_CLASS = 50


def rows_of(project: Project) -> tuple[DataRows, DataRows]:
    train = project.train_rows(project.config.model.classes)
    return train, project.test_rows(train.classes)


@dataclass(frozen=True)
class Drawn:
    """Rows drawn from one side of a project: what is trained on or asked about, and their ids."""

    examples: Examples
    ids: list[str]


def drawn(
    context: Context,
    project: Project,
    rows: DataRows,
    preprocessing: PixelPreprocessing,
    labels: NDArray[np.int64],
    count: int | None,
    seed: int,
) -> Drawn:
    labelled = np.flatnonzero(labels != UNLABELLED)
    chosen = np.random.default_rng(seed).permutation(labelled)[: len(labelled) if count is None else count]
    positions = np.sort(chosen)
    pixels = kept_pixels(context, project, rows, preprocessing)[torch.from_numpy(positions)]
    return Drawn(Examples(pixels, torch.from_numpy(labels[positions])), [rows.ids[p] for p in positions.tolist()])


def balanced(
    context: Context, project: Project, test: DataRows, preprocessing: PixelPreprocessing, seed: int
) -> Examples:
    """Return up to QUERIES_PER_CLASS test rows of each class, drawn at random."""
    random = np.random.default_rng([seed, 1])
    by_class = [np.flatnonzero(test.labels == label) for label in range(len(test.classes))]
    chosen = np.sort(np.concatenate([random.permutation(rows)[:QUERIES_PER_CLASS] for rows in by_class]))
    if not len(chosen):
        raise DataError("No test row has a label.", hint="Check the label column of test: in project.yaml.")
    pixels = kept_pixels(context, project, test, preprocessing)[torch.from_numpy(chosen)]
    return Examples(pixels, torch.from_numpy(test.labels[chosen]))
