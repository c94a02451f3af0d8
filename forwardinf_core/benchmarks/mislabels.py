"""How well every signal finds wrong labels that are known: AUROC, average precision, recall in the first tenth.

The model is the built-in baseline, trained here on the wrong labels where the problem's folder holds none. Trusted rows
are drawn from the clean test rows; signals that need them are means over the draws. Nothing is tuned here: the default
ranking and every option are as the program ships them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.fitting import FitOptions, kept_pixels, suitable_preprocessing
from forwardinf_core.audits.mislabels import ranking
from forwardinf_core.audits.mislabels.evidence import Evidence
from forwardinf_core.audits.mislabels.finding import VERSION
from forwardinf_core.audits.mislabels.keeping import ranked
from forwardinf_core.audits.mislabels.requirements import checked_labels
from forwardinf_core.audits.mislabels.signals import TRUSTED_ONLY
from forwardinf_core.audits.mislabels.smoother import Smoother
from forwardinf_core.audits.mislabels.trusted import Trusted, features_of
from forwardinf_core.audits.opening import load_audit
from forwardinf_core.audits.patches import patch_features
from forwardinf_core.benchmarks.mislabels_sets import FROM_TEST, Problem
from forwardinf_core.jobs.context import JobContext, Progress
from forwardinf_core.jobs.run import run_here
from forwardinf_core.projects.load import open_project
from forwardinf_core.store.binding import Binding
from forwardinf_core.store.chunks import ChunkStore

INSPECTED = 0.1
FOLDS = 5
DEFAULT_ALONE = "default, no trusted rows"
DEFAULT = "default, with trusted rows"

Report = Callable[[float, str], None]


@dataclass(frozen=True)
class Line:
    """How well one signal does on one problem; means over the draws of trusted rows where it uses them."""

    problem: str
    signal: str
    auroc: float
    average_precision: float
    recall_in_first_tenth: float
    draws: int


@dataclass(frozen=True)
class Calibrated:
    """The estimates of one search beside the truth."""

    problem: str
    n_wrong: int
    n_wrong_estimated: float
    expected_precision: dict[int, float]  # of the k most suspicious rows
    precision: dict[int, float]
    seconds: float  # of the whole search, the model's training apart


def measure(
    problem: Problem,
    *,
    trusted: int,
    draws: int,
    seed: int,
    networks: int,
    retrained: int,
    report: Report,
) -> tuple[list[Line], Calibrated]:
    """Return a line a signal, and what the calibration is worth."""
    if not (problem.folder / "model" / "model.safetensors").is_file():
        run_here("fit", problem.folder, FitOptions(seed=seed), lambda done, total, note: report(done / total, note))
    audit = load_audit(problem.folder)
    context = context_of(problem, audit.model.fingerprint, seed, report)
    labels = checked_labels(audit.train)
    started = time.monotonic()
    alone = Evidence(audit, context, labels, None, FOLDS, seed)
    signals, judgement = ranked(alone, retrained=retrained, n_networks=networks)
    seconds = time.monotonic() - started
    lines = [judged(problem, DEFAULT_ALONE, [judgement.ranking])]
    lines += [judged(problem, name, [values]) for name, values in signals.items()]
    lines += _with_trusted(problem, alone, signals, judgement.sides, trusted, draws)
    return lines, _calibration(problem, judgement.ranking, judgement.chance, seconds)


def measure_patches(problem: Problem, *, seed: int, report: Report) -> Line:
    """Return how well the patches do, the one signal that needs no model."""
    project = open_project(problem.folder)
    rows = project.train_rows(None)
    context = context_of(problem, "no model", seed, report)
    pixels = kept_pixels(context, project, rows, suitable_preprocessing(rows, FitOptions(seed=seed)))
    labels = torch.from_numpy(rows.labels.copy())
    opinion = Smoother.fit(patch_features(pixels, seed=seed), seed=seed).left_out(labels, len(rows.classes))
    return judged(problem, "patches", [opinion.loss().numpy()])


def context_of(problem: Problem, model: str, seed: int, report: Report) -> JobContext:
    """Return a place for finished parts, so that a benchmark that was stopped goes on."""
    bound = Binding("bench-mislabels", {"model": model}, {"seed": seed}, VERSION)
    chunks = ChunkStore(problem.folder / ".audit" / f"bench-{bound.key()[:12]}", bound)

    def on_report(progress: Progress) -> None:
        report(progress.done / progress.total if progress.total else 0.0, f"{problem.name}: {progress.note}")

    return JobContext(problem.folder, chunks, {}, on_report)


def judged(problem: Problem, signal: str, scores: Sequence[NDArray[np.float32]]) -> Line:
    """Return the mean quality of one or more scorings on the rows whose truth is known."""
    wrong = problem.wrong[problem.known]
    found = []
    for score in scores:
        known = score[problem.known]
        first = np.argsort(-known, kind="stable")[: round(INSPECTED * len(known))]
        recall = float(wrong[first].sum() / max(1, wrong.sum()))
        found.append((float(roc_auc_score(wrong, known)), float(average_precision_score(wrong, known)), recall))
    auroc, precision, recall = np.mean(found, axis=0).tolist()
    return Line(problem.name, signal, auroc, precision, recall, len(scores))


def _with_trusted(
    problem: Problem,
    alone: Evidence,
    signals: dict[str, NDArray[np.float32]],
    sides: Sequence[str],
    count: int,
    draws: int,
) -> list[Line]:
    if not count or alone.head is None:
        return []
    audit, context = alone.audit, alone.context
    features = features_of(audit, audit.test, context)
    scores: dict[str, list[NDArray[np.float32]]] = {name: [] for name in (DEFAULT, *TRUSTED_ONLY)}
    for draw in range(draws):
        evidence = Evidence(
            audit, context, alone.labels, _drawn(audit, features, count, draw), FOLDS, alone.seed, name=f"draw-{draw}-"
        )
        own = {
            "mirrored": step[0].loss() if (step := evidence.trusted_step()) else None,
            "curvature": after.loss() if (after := evidence.curvature_step()) else None,
            "class_groups": evidence.class_groups(),
        }
        arrays = {name: values.numpy() for name, values in own.items() if values is not None}
        for name, values in arrays.items():
            scores[name].append(values)
        scores[DEFAULT].append(ranking.combined({**signals, **arrays}, ranking.weights_of(sides)))
    return [judged(problem, name, values) for name, values in scores.items() if values]


def _drawn(audit: Audit, features: torch.Tensor, count: int, draw: int) -> Trusted:
    searched = set(audit.train_ids)
    others = [row for row, row_id in enumerate(audit.test_ids) if f"{FROM_TEST}{row_id}" not in searched]
    count = min(count, len(others) // 2)  # draws of nearly all rows would be one and the same draw
    rows = np.asarray(np.random.default_rng([20240808, draw]).choice(others, count, replace=False))
    ids = tuple(str(audit.test.ids[row]) for row in rows.tolist())
    return Trusted(ids, torch.from_numpy(audit.test.labels[rows].copy()), features[torch.from_numpy(rows)], ())


def _calibration(
    problem: Problem, default: NDArray[np.float32], chance: NDArray[np.float32], seconds: float
) -> Calibrated:
    known = problem.known
    wrong, sure = problem.wrong[known], chance[known]
    order = np.argsort(-default[known], kind="stable")
    cuts = [cut for cut in (100, 250, 500, 1_000, 2_000, 4_000) if cut <= len(order)]
    return Calibrated(
        problem.name,
        int(wrong.sum()),
        float(sure.sum()),
        {cut: float(sure[order[:cut]].mean()) for cut in cuts},
        {cut: float(wrong[order[:cut]].mean()) for cut in cuts},
        seconds,
    )
