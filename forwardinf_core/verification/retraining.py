r"""One piece of retraining machinery: some rows and a seed → a trained network → its outputs on watched rows.

The linear datamodelling score, the removal check, memorisation and the effect of cleaning all ask the same question
of it. Every outcome is kept in a ChunkStore bound to model, rows and options, so work that was stopped goes on where
it was, and a second question about the same subset costs nothing.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from forwardinf_core.errors import DataError, ModelError
from forwardinf_core.influence.network import slices
from forwardinf_core.influence.objective import Classification
from forwardinf_core.models.baseline import Baseline, BaselineConfig
from forwardinf_core.models.training import EVALUATION_BATCH, TrainingOptions, TrainingResult, train
from forwardinf_core.store.binding import Binding
from forwardinf_core.store.chunks import ChunkStore
from forwardinf_core.store.files import sha256

Report = Callable[[float, str], None]


@dataclass(frozen=True)
class ImageSet:
    """Labelled images as bytes: ``pixels`` (n, channels, size, size) uint8, ``labels`` (n,) int64."""

    pixels: Tensor
    labels: Tensor

    def fingerprint(self) -> str:
        """Return the SHA-256 over shapes, pixels and labels."""
        content = (self.pixels.contiguous().numpy(), self.labels.contiguous().numpy())
        return sha256("".join(sha256(part.tobytes()) + str(part.shape) for part in content).encode())


@dataclass(frozen=True)
class Recipe:
    """A network and how it is trained on any subset of ``rows``; the pixels' mean and spread are those of all rows."""

    config: BaselineConfig
    options: TrainingOptions  # its seed is replaced by the task's
    rows: ImageSet

    @cached_property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and spread of the bytes per channel, each (1, channels, 1, 1); a spread below one byte counts as one."""
        values = self.rows.pixels.double()
        mean, spread = values.mean((0, 2, 3), keepdim=True), values.std((0, 2, 3), correction=0, keepdim=True)
        return mean.float(), spread.clamp_min(1.0).float()

    def normalise(self, pixels: Tensor) -> Tensor:
        """Return float images with mean 0 and spread 1 per channel over all rows."""
        mean, spread = self.moments
        return pixels.float().sub_(mean).div_(spread)

    def network(self, task: Task) -> tuple[Baseline, TrainingResult]:
        """Return the network trained for a task. The task's seed decides first weights, order and augmentation."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(task.seed)
            module = Baseline(self.config)
        rows = torch.as_tensor(task.subset)
        options = replace(self.options, seed=task.seed)
        result = train(module, self.rows.pixels, self.rows.labels, options, normalise=self.normalise, rows=rows)
        return module, result

    def binding(self, kind: str, **more: ImageSet) -> Binding:
        """Return what results of this recipe depend on, with further sets by name."""
        prints = {"rows": self.rows.fingerprint()} | {name: images.fingerprint() for name, images in more.items()}
        options = asdict(self.options)
        del options["seed"]  # each task has its own
        return Binding(kind, prints, {"model": asdict(self.config), "training": options})


@dataclass(frozen=True)
class Task:
    """Rows to train on (positions, ascending) and the seed of everything random."""

    subset: NDArray[np.int64]
    seed: int

    @property
    def key(self) -> str:
        """Name of the outcome in the store."""
        return f"{sha256(np.ascontiguousarray(self.subset, dtype=np.int64).tobytes())[:32]}-seed{self.seed}"


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


@torch.inference_mode()
def outputs_of(module: nn.Module, images: Tensor, normalise: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the module's outputs (n, n_classes) for images as bytes."""
    parts = [module(normalise(images[start:stop])) for start, stop in slices(len(images), EVALUATION_BATCH)]
    return torch.cat(parts).float()


@dataclass(frozen=True)
class Retraining:
    """Retrains a recipe on subsets and watches some rows; see the module's introduction."""

    recipe: Recipe
    watched: ImageSet
    store: ChunkStore

    def outcome(self, task: Task) -> Outcome:
        """Return the outcome of a task, from the store where it is there. A diverged training is kept as failed."""
        kept = self.store.get(task.key)
        if kept is None:
            kept = {"outputs": self._retrained(task)}
            self.store.put(task.key, kept)
        return Outcome(kept["outputs"], self.watched.labels)

    def outcomes(self, tasks: Sequence[Task], *, workers: int = 1, report: Report | None = None) -> list[Outcome]:
        """Return the outcomes of all tasks in their order; ``workers`` processes of one thread each train the missing.

        ``report`` is called in this process after every training; CancelledError raised by it stops the work, and
        what was finished stays in the store.
        """
        missing = list({task.key: task for task in tasks if self.store.get(task.key) is None}.values())
        finished = len(tasks) - len(missing)
        for count, _ in enumerate(self._trained(missing, workers), start=finished + 1):
            if report is not None:
                report(count / len(tasks), f"{count} of {len(tasks)} networks trained")
        return [self.outcome(task) for task in tasks]

    def _retrained(self, task: Task) -> Tensor:
        try:
            module, _ = self.recipe.network(task)
        except ModelError:
            return torch.full((len(self.watched.labels), self.recipe.config.n_classes), torch.nan)
        return outputs_of(module, self.watched.pixels, self.recipe.normalise)

    def _trained(self, tasks: Sequence[Task], workers: int) -> Iterator[None]:
        if workers == 1 or len(tasks) <= 1:
            for task in tasks:
                self.outcome(task)
                yield
            return
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(self,))
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


def _begin(retraining: Retraining) -> None:
    """Receive, once a process, what all its tasks share."""
    global _current  # the only way to hand a pool's process its data once
    _current = retraining
    torch.set_num_threads(1)


def _train_one(task: Task) -> None:
    assert _current is not None
    _current.outcome(task)
