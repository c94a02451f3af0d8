"""What verifying the hypothesis will cost: some of its own refits, or batches of its own training, done aside."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from forwardinf_core.audits.context import AtOnce
from forwardinf_core.audits.costs import FLOAT_BYTES, PROGRAM_BYTES, START_S
from forwardinf_core.audits.dry_run import DryRun
from forwardinf_core.jobs.forecast import Forecast, judged
from forwardinf_core.projects.load import Project
from forwardinf_core.verification.convex import both_influences
from forwardinf_core.verification.hypothesis import fingerprints_of
from forwardinf_core.verification.hypothesis_parts import convex_problem, network_plan
from forwardinf_core.verification.hypothesis_records import HypothesisOptions
from forwardinf_core.verification.paper_network import BATCH
from forwardinf_core.verification.retraining import Task

BATCHES = 3
DOUBLE_BYTES = 8
HELD = 4  # times the rows, and the Hessian, that a refit holds


@dataclass(frozen=True, slots=True)
class Rates:
    """Processor time of one thread before the repeated part, and of all of that; and the bytes of memory held."""

    setup_seconds: float
    repeated_seconds: float
    memory_bytes: int


class _EnoughError(Exception):
    """Enough has been seen."""


def dry_run_of(project: Project, options: HypothesisOptions) -> DryRun[Rates]:
    """Return the dry run of a part with these options on the project's rows."""
    make = _convex if options.part == "convex" else _network
    file = project.audit_dir / f"cost-hypothesis-{options.part}.json"
    prints = " ".join([*fingerprints_of(project.root, None).values(), repr(options)])
    return DryRun(file, prints, Rates, lambda: make(project, options))


def of_verification(project: Project, rates: Rates) -> Forecast:
    """Return what the verification costs."""
    seconds = START_S + rates.setup_seconds + rates.repeated_seconds
    return judged(project.root, seconds, PROGRAM_BYTES + rates.memory_bytes, 0)


def _convex(project: Project, options: HypothesisOptions) -> Rates:
    """Fit the regression, and leave out the first block of rows."""
    begun = time.thread_time()
    found = convex_problem(AtOnce(), project, options)
    n = len(found.rows.ids)
    block: list[tuple[int, float]] = []

    def kept(start: int, stop: int, compute: Callable[[], Tensor]) -> Tensor:
        started = time.thread_time()
        compute()
        block.append((stop - start, time.thread_time() - started))
        raise _EnoughError

    with contextlib.suppress(_EnoughError):
        both_influences(found.problem, found.asked_of, each=options.each, seed=options.seed, kept=kept)
    (size, seconds), spent = block[0], time.thread_time() - begun
    refits = n + 2 * options.each
    inputs = found.problem.inputs
    width = inputs.shape[1] * int(found.problem.labels.max() + 1)
    memory = HELD * DOUBLE_BYTES * (inputs.numel() + width**2) + DOUBLE_BYTES * size * width
    return Rates(spent - seconds, seconds / size * refits, memory)


def _network(project: Project, options: HypothesisOptions) -> Rates:
    """Train the paper's network on a few batches, once to warm up."""
    begun = time.thread_time()
    plan, recipe = network_plan(AtOnce(), project, options)
    once = replace(recipe, epochs=1)
    few = Task(plan.tasks[0].subset[: BATCHES * BATCH], plan.tasks[0].seed)
    once.network(few)
    setup_s, started = time.thread_time() - begun, time.thread_time()
    once.network(few)
    each_s = (time.thread_time() - started) / len(few.subset)
    visits = recipe.epochs * sum(len(task.subset) for task in plan.tasks)
    weights = sum(value.numel() for value in once.network(few).state_dict().values())
    memory = recipe.rows.inputs.numel() + FLOAT_BYTES * (HELD * weights + recipe.rows.inputs.numel())
    return Rates(setup_s, each_s * visits, memory)
