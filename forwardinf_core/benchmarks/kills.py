"""``bench kills``: a full pass, a curvature fit and a training, killed at random moments, and what they end in.

Each is done twice on a project of noise: undisturbed in the foreground, and by a worker that is killed with its child
again and again. Both must end in the same bytes. Give it a FORWARDINF_HOME of its own: it kills workers.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from forwardinf_core.audits.attribution import AttributeOptions
from forwardinf_core.audits.fitting import FitOptions
from forwardinf_core.audits.methods import method_named
from forwardinf_core.audits.preparation import PrepareOptions
from forwardinf_core.benchmarks.memory import make_project
from forwardinf_core.commands.jobs import JOB_MODULES
from forwardinf_core.jobs import run
from forwardinf_core.jobs.measure import kill_one, wait_until
from forwardinf_core.jobs.worker import ensure_worker
from forwardinf_core.store.files import sha256_of_file

N_ROWS = 6_000
LONGEST_WAIT_S = 2.0  # between a look at running work and the kill


@dataclass(frozen=True)
class Survival:
    """One kind of work: how often it was killed, and whether it ended in the bytes of the undisturbed one."""

    work: str
    kills: int
    equal: bool
    files: int  # compared


def works() -> dict[str, tuple[str, object, str]]:
    """Return kind, options and the files to compare, by what the work is called. Registers every kind of job."""
    for module in JOB_MODULES:
        import_module(module)
    full = AttributeOptions(("test:test-0",), method_named("full-sgd"))
    return {
        "full pass": ("attribute", full, ".audit/runs/*/scores.parquet"),
        "curvature fit": ("prepare", PrepareOptions(("tail",), (method_named("tail"),)), ".audit/caches/curvature-*/*"),
        "training": ("fit", FitOptions(epochs=4, width=8), "model/*"),
    }


def measure_survival(folder: Path, *, kills: int, seed: int = 0) -> list[Survival]:
    """Kill each kind of work about a third of ``kills`` times, and compare."""
    names = list(works())
    shares = [kills // len(names) + (number < kills % len(names)) for number in range(len(names))]
    return [survival(folder, name, count, seed) for name, count in zip(names, shares, strict=True)]


def survival(folder: Path, name: str, kills: int, seed: int) -> Survival:
    """Do one kind of work undisturbed and killed, in two copies of one project, and compare the files."""
    kind, options, pattern = works()[name]
    calm, wild = folder / f"{kind}-calm", folder / f"{kind}-wild"
    for project in (calm, wild):
        shutil.rmtree(project, ignore_errors=True)
    calm.mkdir(parents=True)
    make_project(calm, N_ROWS)  # an untrained model: making it again would make another one
    shutil.copytree(calm, wild)
    run.run_here(kind, calm, options)
    draw = random.Random(f"{seed} {name}")
    done = killed_until_done(lambda: run.submit(kind, wild, options), kills, draw)
    ours = {path.relative_to(calm): sha256_of_file(path) for path in sorted(calm.glob(pattern)) if path.is_file()}
    theirs = {path.relative_to(wild): sha256_of_file(path) for path in sorted(wild.glob(pattern)) if path.is_file()}
    return Survival(name, done, bool(ours) and ours == theirs, len(ours))


def killed_until_done(submit: Callable[[], int], kills: int, draw: random.Random) -> int:
    """Kill the worker or its child at random moments of a job, then let it end; return how often."""
    job_id, killed = submit(), 0
    while killed < kills:
        ensure_worker()  # the one that was killed leaves its job running, and only another one sees that
        state = wait_until(job_id, lambda state: state.state != "queued", modules=JOB_MODULES)
        if not state.is_active:
            break
        time.sleep(draw.random() * LONGEST_WAIT_S)
        killed += kill_one(worker=draw.random() < 0.5)
    wait_until(job_id, lambda state: not state.is_active, modules=JOB_MODULES)
    return killed
