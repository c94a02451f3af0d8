"""Each contender in a process of its own: what it takes, how much memory, and its scores; kept, so that a run goes on.

Time is wall time; "a pass" is one forward pass of the unchanged model over all rows, measured in the same process just
before. Memory is the peak of the whole process, PyTorch and the rows included.
"""

from __future__ import annotations

import multiprocessing
import pickle
import re
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection

import torch
from safetensors.torch import load, save
from torch import Tensor

from forwardinf_core.benchmarks.compare.contenders import BASELINES, BATCH, OURS, Contender
from forwardinf_core.benchmarks.compare.libraries import LIBRARIES
from forwardinf_core.benchmarks.compare.scene import Report, Scene
from forwardinf_core.jobs.memory import peak_bytes
from forwardinf_core.store.chunks import ChunkStore

CONTENDERS: Mapping[str, Callable[[], Contender]] = OURS | BASELINES | LIBRARIES
TOGETHER = 100  # queries asked at once
PASSES = 3


@dataclass(frozen=True)
class Measured:
    """What a contender did. Times in passes; ``scores`` (n_models, n_queries, n_rows), ``own`` (n_rows,) or None."""

    name: str
    first: float  # from nothing to the first answer
    further: float  # one more query
    together: float  # 100 queries at once, after that
    peak_mib: float
    pass_s: float
    scores: Tensor
    own: Tensor | None


@dataclass(frozen=True)
class Failed:
    """A contender that could not be measured, and why."""

    name: str
    reason: str


def measure_all(
    scene: Scene, names: list[str], store: ChunkStore, *, threads: int, limit_s: float, report: Report | None = None
) -> list[Measured | Failed]:
    """Return what each contender did, from the store where it is there; one at a time, so none disturbs another."""
    found: list[Measured | Failed] = []
    for number, name in enumerate(names):
        kept = store.get(slug(name))
        if kept is None:
            if report is not None:
                report(number / len(names), f"Measuring {name}")
            made = _in_own_process(scene, name, threads, limit_s)
            if isinstance(made, Failed):
                found.append(made)
                continue
            kept = made
            store.put(slug(name), kept)
        found.append(_read(name, kept))
    return found


def slug(name: str) -> str:
    """Return a contender's name as the name of a chunk."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _in_own_process(scene: Scene, name: str, threads: int, limit_s: float) -> dict[str, Tensor] | Failed:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    # By value both ways: tensors sent as such are handles, which end with the process that sent them.
    process = context.Process(target=_measure, args=(theirs, pickle.dumps(scene), name, threads))
    process.start()
    theirs.close()
    try:
        if not ours.poll(limit_s):
            return Failed(name, f"not finished after {limit_s / 60:.0f} minutes")
        sent: bytes | str = ours.recv()
    except EOFError:
        process.join()
        return Failed(name, f"its process ended with code {process.exitcode}")
    finally:
        if process.is_alive():
            process.kill()
        process.join()
    return Failed(name, sent) if isinstance(sent, str) else load(sent)


def _measure(link: Connection, scene: bytes, name: str, threads: int) -> None:
    """Measure one contender and send its tensors, or the sentence that says why there are none."""
    torch.set_num_threads(threads)
    try:
        found = _measured(pickle.loads(scene), CONTENDERS[name])  # noqa: S301  # our own scene, from our own process
        link.send(save({key: value.contiguous() for key, value in found.items()}))
    except ModuleNotFoundError as error:
        link.send(f"{error.name} is not installed (requirements-bench.txt)")
    except Exception as error:  # noqa: BLE001  # whatever a library raises is its result
        link.send(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]}")


def _measured(scene: Scene, make: Callable[[], Contender]) -> dict[str, Tensor]:
    pass_s = statistics.median(_timed(lambda: _plain_pass(scene))[0] for _ in range(PASSES))
    contender = make()
    one, two = (scene.asking(number, number + 1) for number in (0, 1))

    def from_nothing() -> Tensor:
        contender.prepare(scene, 0)
        return contender.scores(one.queries, one.query_labels)

    first_s, _ = _timed(from_nothing)
    further_s, _ = _timed(lambda: contender.scores(two.queries, two.query_labels))
    places = torch.arange(TOGETHER) % len(scene.queries)
    together_s, _ = _timed(lambda: contender.scores(scene.queries[places], scene.query_labels[places]))
    peak = peak_bytes() / 2**20
    scores = [contender.scores(scene.queries, scene.query_labels)]
    own = contender.own_influence()
    for model in range(1, len(scene.checkpoints)):
        other = make()
        other.prepare(scene, model)
        scores.append(other.scores(scene.queries, scene.query_labels))
    seconds = torch.tensor([pass_s, first_s, further_s, together_s, peak], dtype=torch.float64)
    result = {"scores": torch.stack(scores).float(), "seconds": seconds}
    return result if own is None else result | {"own": own.float()}


def _timed(work: Callable[[], Tensor]) -> tuple[float, Tensor]:
    begun = time.perf_counter()
    result = work()
    return time.perf_counter() - begun, result


@torch.inference_mode()
def _plain_pass(scene: Scene) -> Tensor:
    module = scene.model(0)
    return torch.cat([module(rows) for rows in torch.split(scene.rows, BATCH)])


def _read(name: str, kept: Mapping[str, Tensor]) -> Measured:
    pass_s, first, further, together, peak = kept["seconds"].tolist()
    first, further, together = (value / pass_s for value in (first, further, together))
    return Measured(name, first, further, together, peak, pass_s, kept["scores"], kept.get("own"))
