"""Which training rows helped this prediction, and which hurt it? (the paper's section 4, on the user's own model)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
    unchanged_max_abs_score: float  # control: largest |score| of the unchanged model, must be 0
    seconds: dict[str, float]  # by phase
