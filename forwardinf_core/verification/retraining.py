r"""One piece of retraining machinery: some rows and a seed → a trained network → its outputs on watched rows.

The linear datamodelling score, the removal check, memorization and the effect of cleaning all ask the same question
of it. What is trained, and how, is a ``Recipe``. Every outcome is kept in a ChunkStore bound to model, rows and
options, so work that was stopped goes on where it was, and a second question about the same subset costs nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forwardinf_core.errors import DataError, ModelError
from forwardinf_core.influence.objective import Classification
from forwardinf_core.store.binding import Binding
from forwardinf_core.store.chunks import ChunkStore
from forwardinf_core.store.files import sha256

PARENT_LOOK_S = 2.0  # how often a process of the pool looks whether the one that started it still lives

Report = Callable[[float, str], None]


@dataclass(frozen=True)
class Examples:
    """Labelled rows as a recipe trains on them.

    ``inputs`` (n, …): images as bytes (n, channels, size, size) uint8, texts as numbers of tokens, features of a head.
    ``labels`` (n,) int64, −1 = none.
    """

    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def fingerprint(self) -> str:
        """Return the SHA-256 over shapes, inputs and labels."""
        content = (self.inputs.contiguous().numpy(), self.labels.contiguous().numpy())
        return sha256("".join(sha256(part.tobytes()) + str(part.shape) for part in content).encode())

    def at(self, positions: NDArray[np.int64] | Sequence[int]) -> Examples:
        """Return some of the rows, in the order given."""
        chosen = torch.as_tensor(np.asarray(positions, dtype=np.int64))
        return Examples(self.inputs[chosen], self.labels[chosen])

    @staticmethod
    def joined(*parts: Examples) -> Examples:
        """Return the rows of all parts, one after the other."""
        return Examples(torch.cat([part.inputs for part in parts]), torch.cat([part.labels for part in parts]))


@dataclass(frozen=True)
class Task:
    """Rows to train on (positions, ascending), labels that some of them are given instead, and the seed.

    ``name`` says in words what the task is ("without the 20 most helpful rows"), for a person to read where it fails.
    """

    subset: NDArray[np.int64]
    seed: int
    labels: Mapping[int, int] = field(default_factory=dict)  # position → label
    name: str = ""

    @staticmethod
    def without(n_rows: int, dropped: Sequence[int] | NDArray[np.int64], seed: int, *, name: str = "") -> Task:
        """Return the task of training on all rows but some."""
        kept = np.setdiff1d(np.arange(n_rows, dtype=np.int64), np.asarray(dropped, dtype=np.int64))
        return Task(kept, seed, name=name)

    @property
    def key(self) -> str:
        """Name of the outcome in the store."""
        content = np.ascontiguousarray(self.subset, dtype=np.int64).tobytes()
        if self.labels:
            content += np.array(sorted(self.labels.items()), dtype=np.int64).tobytes() + b"labels"
        return f"{sha256(content)[:32]}-seed{self.seed}"

    def labelled(self, labels: Tensor) -> Tensor:
        """Return the labels (n,) of all rows with this task's own in their place."""
        if not self.labels:
            return labels
        changed = labels.clone()
        changed[torch.tensor(list(self.labels))] = torch.tensor(list(self.labels.values()))
        return changed


class Recipe(Protocol):
    """What is trained, on which rows, and how. Its own random numbers come from the task's seed alone."""

    @property
    def rows(self) -> Examples: ...

    @property
    def n_classes(self) -> int: ...

    def outputs(self, task: Task, watched: Examples) -> Tensor:
        """Train for a task and return the outputs (n_watched, n_classes). Raises ModelError where training diverges."""
        ...

    def binding(self, kind: str, **more: Examples) -> Binding:
        """Return what results of this recipe depend on, with further rows by name."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What a retrained network says of the watched rows. A training that failed has NaN everywhere."""

    outputs: Tensor  # (n_watched, n_classes) float32, logits
    labels: Tensor  # (n_watched,)

    @property
    def failed(self) -> bool:
        """Whether training ended without a usable network."""
        return not bool(self.outputs.isfinite().all())

    @property
    def losses(self) -> Tensor:
        """Cross-entropy of each watched row, shape (n_watched,)."""
        return Classification().losses(self.outputs, {"label": self.labels})

    @property
    def margins(self) -> Tensor:
        """Log-odds of each watched row's label, shape (n_watched,); higher = surer of the label."""
        return -Classification().unsaturated_losses(self.outputs, {"label": self.labels})

    def at(self, positions: NDArray[np.int64] | Sequence[int], labels: Sequence[int] | None = None) -> Outcome:
        """Return what is said of some of the watched rows, judged by other labels where they are given."""
        chosen = torch.as_tensor(np.asarray(positions, dtype=np.int64))
        return Outcome(self.outputs[chosen], self.labels[chosen] if labels is None else torch.as_tensor(list(labels)))


def half_subsets(n_rows: int, count: int, seed: int) -> NDArray[np.int64]:
    """Return ``count`` random halves of the rows as ascending positions, shape (count, n_rows // 2).

    Raises DataError below 4 rows. Subset i does not depend on ``count``: more can be added later.
    """
    if n_rows < 4:
        raise DataError(
            f"Half-subsets need at least 4 training rows, and there are {n_rows}.",
            hint="The linear datamodelling score says little below a few hundred rows.",
        )
    halves = [np.random.default_rng([seed, i]).permutation(n_rows)[: n_rows // 2] for i in range(count)]
    return np.sort(np.stack(halves), axis=1).astype(np.int64)


def failures(tasks: Sequence[Task], outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    """Return, in words, each training that failed: these are named and left out of every mean."""
    return tuple(
        f"{task.name or f'{len(task.subset):,} rows'}, seed {task.seed}"
        for task, outcome in zip(tasks, outcomes, strict=True)
        if outcome.failed
    )


@dataclass(frozen=True)
class Retraining:
    """Retrains a recipe on subsets and watches some rows; see the module's introduction."""

    recipe: Recipe
    watched: Examples
    store: ChunkStore

    def outcome(self, task: Task) -> Outcome:
        """Return the outcome of a task, from the store where it is there. A diverged training is kept as failed."""
        kept = self.store.get(task.key)
        if kept is None:
            kept = {"outputs": self._retrained(task)}
            self.store.put(task.key, kept)
        return Outcome(kept["outputs"], self.watched.labels)

    def missing(self, tasks: Sequence[Task]) -> list[Task]:
        """Return the tasks whose outcome is not stored yet, each once."""
        return list({task.key: task for task in tasks if self.store.get(task.key) is None}.values())

    def outcomes(self, tasks: Sequence[Task], *, workers: int = 1, report: Report | None = None) -> list[Outcome]:
        """Return the outcomes of all tasks in their order; ``workers`` processes of one thread each train the missing.

        ``report`` is called in this process after every training; CancelledError raised by it stops the work, and
        what was finished stays in the store.
        """
        missing = self.missing(tasks)
        finished = len(tasks) - len(missing)
        for count, _ in enumerate(self._trained(missing, workers), start=finished + 1):
            if report is not None:
                report(count / len(tasks), f"{count} of {len(tasks)} networks trained")
        return [self.outcome(task) for task in tasks]

    def _retrained(self, task: Task) -> Tensor:
        try:
            return self.recipe.outputs(task, self.watched).float()
        except ModelError:
            return torch.full((len(self.watched), self.recipe.n_classes), torch.nan)

    def _trained(self, tasks: Sequence[Task], workers: int) -> Iterator[None]:
        if workers == 1 or len(tasks) <= 1:
            for task in tasks:
                self.outcome(task)
                yield
            return
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(self, os.getpid()))
        try:
            pending: set[Future[None]] = {pool.submit(_train_one, task) for task in tasks}
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                    yield
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_current: Retraining | None = None


def _begin(retraining: Retraining, parent: int) -> None:
    """Receive, once a process, what all its tasks share; end with the process that asked, also where that is killed."""
    global _current  # the only way to hand a pool's process its data once
    _current = retraining
    torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_LOOK_S)
    os._exit(1)


def _train_one(task: Task) -> None:
    assert _current is not None
    _current.outcome(task)
