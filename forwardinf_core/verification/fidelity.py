"""How faithful are a project's answers? Its linear datamodelling score, by retraining halves of its own rows, as a run.

Random test rows are the queries. The built-in network is retrained on random halves of the training rows, with several
seeds; every method's scores of the project's own model are held against what those networks do with the queries
(``lds``). Retrained networks stay, so that more methods, queries or subsets later cost only what is new.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.methods import method_named
from forwardinf_core.audits.opening import fingerprints_of, load_audit
from forwardinf_core.datasets.rows import UNLABELLED
from forwardinf_core.errors import DataError
from forwardinf_core.jobs import run as jobs
from forwardinf_core.jobs.context import JobContext
from forwardinf_core.jobs.execution import available_threads
from forwardinf_core.jobs.registry import job
from forwardinf_core.store.binding import Binding, Option
from forwardinf_core.store.runs import RunRecord, find_run, list_runs, save_run
from forwardinf_core.verification.lds import Lds, Truth, linear_datamodelling_score, subset_sums
from forwardinf_core.verification.method_scores import BASELINES, scores_of
from forwardinf_core.verification.recipes import retraining_of
from forwardinf_core.verification.retraining import Retraining, Task, failures, half_subsets

KIND = "lds"
VERSION = 2
LEAST_ROWS = 100  # below, a half says more of the luck of its draw than of any row
SUBSET_SEED, QUERY_SEED = 1, 2

Floats = NDArray[np.float64]
Report = Callable[[float, str], None]


@dataclass(frozen=True)
class LdsOptions:
    """``method``: whose score is reported; it and the baselines are held against ``subsets`` halves × ``seeds``."""

    method: str
    subsets: int = 100
    seeds: int = 2
    queries: int = 50


@dataclass(frozen=True)
class Fidelity:
    """A finished score. ``lines``: method → (score, low, high), the asked one first; ``ceiling`` NaN with one seed.

    ``points``: query_id, subset, ``predicted`` (summed scores of the asked method) and ``outcome`` (log-odds).
    ``left_out``: queries that cannot be compared. ``failed``: trainings without a usable network.
    """

    run_id: str
    method: str
    lds: float
    low: float
    high: float
    ceiling: float
    lines: dict[str, tuple[float, float, float]]
    left_out: tuple[str, ...]
    failed: tuple[str, ...]
    n_rows: int
    n_queries: int
    options: dict[str, Option]
    seconds: float
    points: pd.DataFrame
    queries: pd.DataFrame


def lds_options(
    audit: Audit, *, method: str | None = None, subsets: int = 100, seeds: int = 2, queries: int = 50
) -> LdsOptions:
    """Return the whole question; without a method the best one the model has. Raises DataError or AuditError."""
    n_rows = int((audit.train_labels != UNLABELLED).sum())
    if n_rows < LEAST_ROWS:
        raise DataError(
            f"Half-subsets of {n_rows} labelled training rows say too little.",
            hint=f"The linear datamodelling score needs {LEAST_ROWS} rows; check single answers with verify removal.",
        )
    best = "tail" if audit.model.tail is not None else "head" if audit.model.head is not None else "full"
    return LdsOptions(method_named(method or best).name, subsets, seeds, queries)


def find_lds(audit: Audit, options: LdsOptions) -> Fidelity | None:
    """Return the stored score for these options, or None."""
    record = find_run(audit.project, KIND, _binding(audit, options).key())
    return None if record is None else opened(record)


def latest_lds(audit: Audit) -> Fidelity | None:
    """Return the newest stored score of this model on these rows, whatever its options."""
    prints = fingerprints_of(audit.folder, None)
    for record in list_runs(audit.project, KIND):
        if record.summary.get("inputs") == prints:
            return opened(record)
    return None


def start_lds(audit: Audit, options: LdsOptions) -> int:
    """Hand the work to the worker and return the id of its job. Raises ModelError where nothing can be retrained."""
    return jobs.submit(KIND, audit.folder, options)


def lds_now(audit: Audit, options: LdsOptions, report: Report | None = None) -> Fidelity:
    """Return the score: read back where it is stored, else measured here and now."""
    found = find_lds(audit, options)
    if found is None:

        def on_report(done: float, total: float, note: str) -> None:
            if report is not None:
                report(done / total if total else 0.0, note)

        jobs.run_here(KIND, audit.folder, options, on_report)
        found = find_lds(audit, options)
    assert found is not None
    return found


@job(KIND, version=VERSION, fingerprints=fingerprints_of)
def measure_lds(context: JobContext, options: LdsOptions) -> dict[str, Option]:
    """Retrain the halves, score the queries by every method, and keep the comparison; returns the id of the run."""
    audit = load_audit(context.project)
    known = find_run(audit.project, KIND, _binding(audit, options).key())
    return {"run": (known or _measured(audit, options, context)).id}


def truth_by_retraining(
    retraining: Retraining,
    labelled: NDArray[np.int64],
    watched: NDArray[np.int64],
    *,
    subsets: int,
    seeds: int,
    report: Report | None = None,
    workers: int = 1,
) -> tuple[Truth, tuple[str, ...]]:
    """Return the log-odds of ``watched`` rows after training on halves of the ``labelled`` ones, and what failed."""
    halves = labelled[half_subsets(len(labelled), subsets, SUBSET_SEED)]
    tasks = [
        Task(half, seed, name=f"half {number}") for seed in range(seeds) for number, half in enumerate(halves, start=1)
    ]
    outcomes = retraining.outcomes(tasks, workers=workers, report=report)
    margins = np.stack([outcome.at(watched).margins.double().numpy() for outcome in outcomes])
    return Truth.of(halves, margins.reshape(seeds, subsets, -1)), failures(tasks, outcomes)


def drawn_queries(audit: Audit, count: int) -> NDArray[np.int64]:
    """Return positions of random labelled test rows. Raises DataError where there is none."""
    labelled = np.flatnonzero(audit.test.labels != UNLABELLED)
    if not len(labelled):
        raise DataError("No test row has a label.", hint="Check the label column of test: in project.yaml.")
    return np.sort(np.random.default_rng(QUERY_SEED).permutation(labelled)[:count])


def opened(record: RunRecord) -> Fidelity:
    """Return a stored run as a score."""
    said = record.summary
    lines = {name: (one[0], one[1], one[2]) for name, one in cast("dict[str, list[float]]", said["lines"]).items()}
    method = str(record.options["method"])
    ceiling = said["ceiling"]
    return Fidelity(
        record.id,
        method,
        *lines[method],
        float("nan") if ceiling is None else cast("float", ceiling),
        lines,
        tuple(cast("list[str]", said["left_out"])),
        tuple(cast("list[str]", said["failed"])),
        cast("int", said["n_rows"]),
        cast("int", said["n_queries"]),
        record.options,
        cast("float", said["seconds"]),
        record.frame("points"),
        record.frame("queries"),
    )


def _binding(audit: Audit, options: LdsOptions) -> Binding:
    return Binding(KIND, fingerprints_of(audit.folder, None), asdict(options), VERSION)


def _measured(audit: Audit, options: LdsOptions, context: JobContext) -> RunRecord:
    begun = time.perf_counter()
    queries = drawn_queries(audit, options.queries)
    labelled = np.flatnonzero(audit.train_labels != UNLABELLED)
    total = options.subsets * options.seeds

    def report(fraction: float, note: str) -> None:
        context.report(fraction * total, total, note)

    retraining = retraining_of(audit, report)
    truth, failed = truth_by_retraining(
        retraining,
        labelled,
        len(audit.train_ids) + queries,
        subsets=options.subsets,
        seeds=options.seeds,
        report=report,
        workers=available_threads(),
    )
    names = list(dict.fromkeys([options.method, *BASELINES]))
    scores = scores_of(audit, names, queries, context)
    found = {name: linear_datamodelling_score(value, truth) for name, value in scores.items()}
    asked = found[options.method]
    ids = [audit.test_ids[position] for position in queries.tolist()]
    binding = _binding(audit, options)
    summary: dict[str, Option] = {
        "lines": {name: [one.lds, one.low, one.high] for name, one in found.items()},
        "ceiling": None if np.isnan(asked.ceiling) else asked.ceiling,
        "left_out": [ids[position] for position in asked.left_out],
        "failed": list(failed),
        "n_rows": len(labelled),
        "n_queries": len(queries),
        "seconds": time.perf_counter() - begun,
        "inputs": dict(context.fingerprints),
    }
    frames = {"points": _points(ids, scores[options.method], truth), "queries": _by_query(ids, found)}
    return save_run(audit.project, KIND, binding.key(), options=binding.options, summary=summary, frames=frames)


def _points(ids: list[str], scores: Floats, truth: Truth) -> pd.DataFrame:
    predicted, outcome = subset_sums(scores, truth.subsets), truth.mean  # both (n_subsets, n_queries)
    return pd.DataFrame(
        {
            "query_id": np.tile(np.array(ids, dtype=object), len(predicted)),
            "subset": np.repeat(np.arange(1, len(predicted) + 1), len(ids)),
            "predicted": predicted.ravel(),
            "outcome": outcome.ravel(),
        }
    )


def _by_query(ids: list[str], found: Mapping[str, Lds]) -> pd.DataFrame:
    return pd.DataFrame({"query_id": ids, **{name: one.per_query for name, one in found.items()}})
