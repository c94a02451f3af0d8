"""What an attribution is made of: frozen records, as pages and the command line read them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forwardinf_core.errors import AuditError
from forwardinf_core.influence.scores import ScoreTable


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says of one row. ``label`` is −1 where the row has none; ``loss`` is on the target asked about."""

    probabilities: NDArray[np.float32]  # (n_classes,), in the order of the model's classes
    prediction: int
    confidence: float
    label: int


@dataclass(frozen=True, slots=True)
class TestPredictions:
    """Predictions of all test rows, in test-set order."""

    prediction: NDArray[np.int64]  # (n_test,)
    confidence: NDArray[np.float32]  # (n_test,)
    label: NDArray[np.int64]  # (n_test,), −1 = none
    loss: NDArray[np.float32]  # (n_test,), on the label; NaN where there is none


@dataclass(frozen=True, slots=True)
class MethodReport:
    """How scores were made: every option, and what the step did to the query."""

    name: str  # as given to --method, e.g. "head", "tail", "forward-inf"
    scope: str  # head | tail | full | cascade
    options: dict[str, str | int | float | bool | None]
    loss_before: float
    loss_after: float


@dataclass(frozen=True, slots=True)
class Attribution:
    """A finished attribution: one signed score per training row, positive = helped."""

    run_id: str
    query: str  # "test:ID" or "upload:KEY"
    prediction: Prediction
    target: int  # class the question is about
    method: MethodReport
    scores: ScoreTable
    unchanged_max_abs_score: float  # control: largest |score| of the unchanged model on the rows checked, must be 0
    unchanged_rows: int  # how many rows that control looked at
    seconds: dict[str, float]  # by phase, of the time it was computed


@dataclass(frozen=True, slots=True)
class MethodInfo:
    """One way to score, for a person to choose. ``why_not`` says what is missing where it is not available."""

    name: str
    title: str
    plain_words: str
    scope: str
    available: bool
    why_not: str


@dataclass(frozen=True, slots=True)
class WorkState:
    """How far work on an answer is. ``fault`` is what stopped it."""

    done: bool
    fraction: float  # 0 to 1
    note: str
    seconds_left: float | None = None
    fault: AuditError | None = None


@dataclass(frozen=True, slots=True)
class CacheState:
    """One thing that makes answers faster, and whether it is on disk."""

    name: str
    ready: bool
    bytes: int
