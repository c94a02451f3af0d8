"""How good the machinery of jobs is: kills survived bit for bit, overhead, cancel latency, time to first progress.

The work measured is a job of its own: every chunk sums seeded random matrices and squares them, so that its result is
known without the machinery (``bare_digest``). Give it a FORWARDINF_HOME of its own: it kills the worker.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
import torch
from torch import Tensor

from forwardinf_core.errors import JobError
from forwardinf_core.jobs import run
from forwardinf_core.jobs.context import JobContext
from forwardinf_core.jobs.execution import available_threads
from forwardinf_core.jobs.queue import JobStatus
from forwardinf_core.jobs.registry import job
from forwardinf_core.jobs.worker import NICENESS, ensure_worker
from forwardinf_core.store.binding import Option
from forwardinf_core.store.chunks import digest_of

SIZE = 128
WAIT_S = 300.0
CHUNK_S = 1.0  # about, of the job whose overhead is measured: ten batches of a full pass over CIFAR-10N take .8 s
MODULES = ("forwardinf_core.jobs.measure",)  # all that a worker started here has to know
LOOK_S = 0.01
SELDOM_S = 0.25  # where looking must not take the processor from what is measured


@dataclass(frozen=True)
class MeasureOptions:
    """``repeats`` products of 128 × 128 matrices are one chunk; ``seed`` and the chunk's number seed it."""

    chunks: int = 20
    repeats: int = 200
    seed: int = 0


@dataclass(frozen=True)
class Kills:
    """``equal`` of ``jobs`` interrupted jobs ended bit-equal to the bare function; ``kills`` processes were killed."""

    jobs: int
    kills: int
    equal: int


@dataclass(frozen=True)
class Overhead:
    """Medians over pairs of the bare function and the same job: seconds by the clock and of the processor.

    ``share`` is what the machinery adds by the clock, ``processor_share`` what it adds to the processor's work, that
    of the worker which watches the job included. Two runs of the same products differ by several percent, so
    ``outside_share`` looks within the job: its time outside its chunks' computing, over the time inside.
    """

    bare_s: float
    worker_s: float
    share: float
    processor_share: float
    outside_share: float


@dataclass(frozen=True)
class Latency:
    """Seconds: the median and the largest of the measured."""

    median_s: float
    largest_s: float
    every_s: tuple[float, ...] = field(repr=False)


def chunk_of(options: MeasureOptions, number: int) -> Tensor:
    """Return what one chunk of the measured work holds, (128, 128) float32."""
    generator = torch.Generator().manual_seed(options.seed * 1_000_003 + number)
    total = torch.zeros(SIZE, SIZE)
    for _ in range(options.repeats):
        draw = torch.randn(SIZE, SIZE, generator=generator)
        total += draw @ draw.T / SIZE
    return total


@job("measure")
def measured_work(context: JobContext, options: MeasureOptions) -> dict[str, Option]:
    """Compute every chunk that is missing and return the digest of the sum of all."""
    begun_s, work_s = time.process_time(), 0.0
    total = torch.zeros(SIZE, SIZE)
    context.report(0, options.chunks, "starting")
    for number in range(options.chunks):
        found = context.chunks.get(f"chunk-{number}")
        if found is None:
            chunk_s = time.monotonic()
            found = {"total": chunk_of(options, number)}
            work_s += time.monotonic() - chunk_s
            context.chunks.put(f"chunk-{number}", found)
        total += found["total"]
        context.report(number + 1, options.chunks, "summing")
    processor_s = time.process_time() - begun_s
    return {"sha256": digest_of({"total": total}), "processor_s": processor_s, "work_s": work_s}


def bare_digest(options: MeasureOptions, at_chunk: Callable[[float], None] = lambda _at_s: None) -> str:
    """Return the digest that the job must end with, computed without any machinery.

    ``at_chunk`` is told the monotonic time before the first chunk and after every one.
    """
    total = torch.zeros(SIZE, SIZE)
    at_chunk(time.monotonic())
    for number in range(options.chunks):
        total += chunk_of(options, number)
        at_chunk(time.monotonic())
    return digest_of({"total": total})


def measure_kills(project: Path, options: MeasureOptions, *, kills: int, seed: int = 0) -> Kills:
    """Kill -9 the worker or its child until ``kills`` are done, then compare every result with the bare function's.

    The moments are random: half of them early, also while a process starts, half after the job got on.
    """
    draw = random.Random(seed)
    killed = jobs = equal = 0
    while killed < kills:
        own = MeasureOptions(options.chunks, options.repeats, options.seed + jobs)
        ensure_worker(MODULES)
        job_id = run.submit("measure", project, own)
        furthest = 0.0
        while killed < kills:
            state = wait_until(job_id, _got_on(furthest) if draw.random() < 0.5 else _is_taken)
            furthest = state.done
            if state.state != "running":
                break
            _pass_time(draw.random() * 0.6)
            if kill_one(worker=draw.random() < 0.5):
                killed += 1
        state = wait_until(job_id, lambda state: not state.is_active)
        jobs += 1
        equal += state.result is not None and state.result["sha256"] == bare_digest(own)
    return Kills(jobs, killed, equal)


def measure_overhead(project: Path, options: MeasureOptions, *, pairs: int = 3) -> Overhead:
    """Compare the bare function with a job of the worker, in turn, from its start in the worker to its end.

    Both use all threads that a job may use, at the priority of a job, and neither counts the start of Python.
    """
    ensure_worker(MODULES)
    every = [_pair(project, replace(options, seed=options.seed + number)) for number in range(pairs)]
    return Overhead(*(statistics.median(column) for column in zip(*every, strict=True)))


def _pair(project: Path, options: MeasureOptions) -> tuple[float, float, float, float, float]:
    """Return bare and worker seconds, and the three shares that the worker adds."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_bare_alone, args=(options, theirs))
    process.start()
    theirs.close()
    bare, bare_s, bare_processor_s = ours.recv()
    process.join()
    worker, state = _watched(run.submit("measure", project, options))
    if state.result is None or state.result["sha256"] != bare:
        raise JobError(f"The measured job ended otherwise than the bare function: {state.state} {state.error}.")
    assert state.started is not None
    assert state.finished is not None
    worker_s = state.finished - state.started
    processor_s = float(str(state.result["processor_s"])) + worker
    outside = worker_s / float(str(state.result["work_s"])) - 1
    return bare_s, worker_s, worker_s / bare_s - 1, processor_s / bare_processor_s - 1, outside


def _watched(job_id: int) -> tuple[float, JobStatus]:
    """Return the processor seconds of the worker beside the job's own process, and how the job ended."""
    process = psutil.Process(_worker_of(job_id))
    before = process.cpu_times()
    state = wait_until(job_id, lambda state: not state.is_active, look_s=SELDOM_S)
    after = process.cpu_times()
    return after.user + after.system - before.user - before.system, state


def _worker_of(job_id: int) -> int:
    """Return the process number of the worker that took the job."""
    pid = wait_until(job_id, lambda state: state.worker_pid is not None).worker_pid
    assert pid is not None
    return pid


def _bare_alone(options: MeasureOptions, answer: Connection) -> None:
    """Send digest, seconds and processor seconds of the bare function, run as a worker's child runs."""
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    torch.set_num_threads(available_threads())
    times: list[float] = []
    begun_s = time.process_time()
    digest = bare_digest(options, times.append)
    answer.send((digest, times[-1] - times[0], time.process_time() - begun_s))


def measure_cancel(project: Path, *, times: int, seed: int = 0) -> Latency:
    """Return the time from the click on cancel to the row that says so, for a job in the middle of its work."""
    every = []
    ensure_worker(MODULES)
    for number in range(times):
        options = MeasureOptions(chunks=100_000, repeats=200, seed=seed + number)
        job_id = run.submit("measure", project, options)
        wait_until(job_id, lambda state: state.state == "running" and state.done > 0)
        begun = time.monotonic()
        run.cancel(job_id)
        wait_until(job_id, lambda state: state.state == "cancelled")
        every.append(time.monotonic() - begun)
    return _latency(every)


def measure_first_progress(project: Path, *, times: int, seed: int = 0) -> Latency:
    """Return the time from submit to the first progress a screen can show; the worker is cold for the first alone."""
    every = []
    ensure_worker(MODULES)
    for number in range(times):
        begun = time.monotonic()
        job_id = run.submit("measure", project, MeasureOptions(chunks=100_000, repeats=200, seed=seed + number))
        wait_until(job_id, lambda state: state.total > 0)
        every.append(time.monotonic() - begun)
        run.cancel(job_id)
        wait_until(job_id, lambda state: not state.is_active)
    return _latency(every)


def wait_until(
    job_id: int, reached: Callable[[JobStatus], bool], *, modules: Sequence[str] = MODULES, look_s: float = LOOK_S
) -> JobStatus:
    """Return the job's status once ``reached`` says so; a worker that is gone is started again. Raises JobError."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        state = run.status(job_id)
        if reached(state):
            return state
        if state.is_active:
            ensure_worker(modules)
        _pass_time(look_s)
    raise JobError(f"Job {job_id} is still {run.status(job_id).state} after {WAIT_S:g} s.")


def _is_taken(state: JobStatus) -> bool:
    return state.state != "queued"


def _got_on(furthest: float) -> Callable[[JobStatus], bool]:
    return lambda state: not state.is_active or (state.state == "running" and state.done > furthest)


def kill_one(*, worker: bool) -> bool:
    """Kill -9 the worker or a child that does a job; return whether there was one."""
    running = [state for state in run.list_jobs() if state.worker_pid is not None]
    if not running or running[0].worker_pid is None:
        return False
    try:
        process = psutil.Process(running[0].worker_pid)
        # worker → fork server → child; the fork server's other child tracks shared memory
        children = [child for server in process.children() for child in server.children()]
        if not worker and not children:
            return False
        os.kill(process.pid if worker else children[-1].pid, signal.SIGKILL)
    except (psutil.NoSuchProcess, ProcessLookupError):
        return False
    return True


def _pass_time(seconds: float) -> None:
    time.sleep(seconds)


def measure_all(project: Path, *, kills: int, seconds: float) -> dict[str, float | int]:
    """Return every figure by name. Kills workers: give it a FORWARDINF_HOME of its own."""
    options = MeasureOptions(chunks=20)
    begun = time.monotonic()
    bare_digest(MeasureOptions(chunks=2))
    one_chunk_s = (time.monotonic() - begun) / 2
    survived = measure_kills(project, options, kills=kills)
    repeats = max(round(options.repeats * CHUNK_S / one_chunk_s), 1)
    chunks = max(round(seconds / CHUNK_S), 2)
    overhead = measure_overhead(project, MeasureOptions(chunks, repeats))
    cancel = measure_cancel(project, times=10)
    progress = measure_first_progress(project, times=10)
    return {
        "kills": survived.kills,
        "jobs killed": survived.jobs,
        "jobs that ended bit-equal": survived.equal,
        "a chunk of the bare function, seconds": overhead.bare_s / chunks,
        "bare function, seconds": overhead.bare_s,
        "the same in the worker, seconds": overhead.worker_s,
        "overhead, share": overhead.share,
        "overhead, share of processor time": overhead.processor_share,
        "overhead, share of the job's time outside its chunks": overhead.outside_share,
        "cancel, median seconds": cancel.median_s,
        "cancel, largest seconds": cancel.largest_s,
        "click to first progress, median seconds": progress.median_s,
        "click to first progress, largest seconds": progress.largest_s,
    }


def _latency(every: list[float]) -> Latency:
    ordered = sorted(every)
    return Latency(ordered[len(ordered) // 2], ordered[-1], tuple(every))
