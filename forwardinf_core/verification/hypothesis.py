"""The paper's own verification on the rows of a project, as stored runs: convex (exact) and non-convex (networks).

``convex``: leave-one-out against mirrored retraining of a logistic regression (``convex``). ``network``: groups with a
rising share of wrong labels and the paper's convolutional network (``groups``). Both hold the cheap estimates against
the same truth. No model of the project is needed, only its rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from forwardinf_core.jobs import run as jobs
from forwardinf_core.jobs.context import JobContext
from forwardinf_core.jobs.registry import job
from forwardinf_core.projects.load import Project, open_project
from forwardinf_core.store.binding import Binding, Option
from forwardinf_core.store.runs import find_run, list_runs, save_run
from forwardinf_core.verification.hypothesis_parts import measure_convex, measure_network
from forwardinf_core.verification.hypothesis_records import Hypothesis, HypothesisOptions, Part, opened
from forwardinf_core.verification.hypothesis_rows import rows_of

KIND = "hypothesis"
VERSION = 3  # rises when the same options would give other figures

Report = Callable[[float, str], None]


def find_hypothesis(project: Project, options: HypothesisOptions) -> Hypothesis | None:
    """Return the stored result for these options and the project's rows as they are, or None."""
    record = find_run(project, KIND, _binding(project, options).key())
    return None if record is None else opened(record)


def latest_hypothesis(project: Project, part: Part) -> Hypothesis | None:
    """Return the newest stored result of a part for the project's rows as they are, whatever its options."""
    inputs = fingerprints_of(project.root, None)
    for record in list_runs(project, KIND):
        if record.options.get("part") == part and record.summary.get("inputs") == inputs:
            return opened(record)
    return None


def start_hypothesis(project: Project, options: HypothesisOptions) -> int:
    """Hand the work to the worker and return the id of its job."""
    return jobs.submit(KIND, project.root, options)


def hypothesis_now(project: Project, options: HypothesisOptions, report: Report | None = None) -> Hypothesis:
    """Return the result: read back where it is stored, else measured here and now."""
    found = find_hypothesis(project, options)
    if found is None:

        def on_report(done: float, total: float, note: str) -> None:
            if report is not None:
                report(done / total if total else 0.0, note)

        jobs.run_here(KIND, project.root, options, on_report)
        found = find_hypothesis(project, options)
    assert found is not None
    return found


def fingerprints_of(folder: Path, _options: object) -> dict[str, str]:
    """Return what the verification reads: training and test rows, and the reference labels where there are some."""
    project = open_project(folder)
    train, test = rows_of(project)
    prints = {"train": train.fingerprint, "test": test.fingerprint}
    if project.config.reference_label is not None:
        prints["reference"] = project.config.reference_label
    return prints


@job(KIND, version=VERSION, fingerprints=fingerprints_of)
def verify_hypothesis(context: JobContext, options: HypothesisOptions) -> dict[str, Option]:
    """Measure both influences and keep them as a run; returns its id."""
    project = open_project(context.project)
    begun = time.perf_counter()
    measure = measure_convex if options.part == "convex" else measure_network
    summary, frames = measure(context, project, options)
    summary |= {"seconds": time.perf_counter() - begun, "inputs": dict(context.fingerprints)}
    binding = _binding(project, options)
    record = save_run(project, KIND, binding.key(), options=binding.options, summary=summary, frames=frames)
    return {"run": record.id}


def _binding(project: Project, options: HypothesisOptions) -> Binding:
    return Binding(KIND, fingerprints_of(project.root, None), asdict(options), VERSION)
