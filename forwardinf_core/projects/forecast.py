"""What a run on a project will cost, measured on a few batches.

In the processor time of one thread: with all threads at work it passes as the clock does on an idle machine, and
other programs do not change it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from forwardinf_core.datasets.rows import DataRows
from forwardinf_core.influence.objective import Batch
from forwardinf_core.models.audit_model import AuditModel
from forwardinf_core.models.rows import inputs_of

BATCH_SIZE = 100  # the fastest on two cores
N_BATCHES = 3  # after one that warms up
FLOAT_BYTES = 4
ACTIVATIONS_AT_ONCE = 8  # times the largest layer's output of a batch: what PyTorch keeps while it computes


@dataclass(frozen=True, slots=True)
class Forecast:
    """Time, memory and disk for the training rows. Cache sizes are None where the model has no head or tail."""

    decode_seconds: float  # making every training row ready for the model once: decoding and resizing, or tokens
    forward_seconds: float  # one forward pass over all training rows that are ready
    memory_bytes: int  # working memory of one pass
    pixel_cache_bytes: int  # 0 for texts, which are read anew
    head_cache_bytes: int | None
    tail_cache_bytes: int | None  # a lower bound where the tail reads from several places

    @property
    def disk_bytes(self) -> int:
        """Return the size of all caches together."""
        return self.pixel_cache_bytes + (self.head_cache_bytes or 0) + (self.tail_cache_bytes or 0)


def labelled_batch(model: AuditModel, rows: DataRows, positions: NDArray[np.int64]) -> Batch:
    """Return some rows as a batch, decoded now."""
    return inputs_of(model, rows, positions.tolist()) | {"label": torch.from_numpy(rows.labels[positions])}


@torch.inference_mode()
def forecast(model: AuditModel, rows: DataRows) -> Forecast:
    """Measure a few batches of evenly spread rows. Raises DataError on a row that cannot be read."""
    n_rows = len(rows)
    chosen = np.linspace(0, n_rows - 1, min(n_rows, BATCH_SIZE * N_BATCHES)).astype(np.int64)
    started = time.thread_time()
    batch = inputs_of(model, rows, chosen.tolist())
    decode_s = time.thread_time() - started
    largest, entering = _watched_pass(model, _slice(batch, 0, BATCH_SIZE))  # warms up, too
    started = time.thread_time()
    for start in range(0, len(chosen), BATCH_SIZE):
        model.objective.outputs(model.module, _slice(batch, start, start + BATCH_SIZE))
    forward_s = time.thread_time() - started
    weights = sum(value.numel() * value.element_size() for value in model.module.state_dict().values())
    return Forecast(
        decode_seconds=decode_s * n_rows / len(chosen),
        forward_seconds=forward_s * n_rows / len(chosen),
        memory_bytes=2 * weights + ACTIVATIONS_AT_ONCE * FLOAT_BYTES * largest * BATCH_SIZE,
        pixel_cache_bytes=0 if model.content == "text" else n_rows * batch["x"][0].numel(),
        head_cache_bytes=None if model.head is None else FLOAT_BYTES * n_rows * entering.get(model.head, 0),
        tail_cache_bytes=None if model.tail is None else FLOAT_BYTES * n_rows * entering.get(model.tail[0], 0),
    )


def _slice(batch: Batch, start: int, stop: int) -> Batch:
    return {name: value[start:stop] for name, value in batch.items()}


def _watched_pass(model: AuditModel, batch: Batch) -> tuple[int, dict[str, int]]:
    """Return the largest output of any module, and the size of what enters each module, in numbers a row."""
    sizes: dict[str, int] = {}
    largest, n_rows = 0, len(next(iter(batch.values())))

    def watch(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def note(_module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
            nonlocal largest
            first = next((value for value in inputs if isinstance(value, Tensor)), None)
            if first is not None:
                sizes[name] = first.numel() // n_rows
            if isinstance(output, Tensor):
                largest = max(largest, output.numel() // n_rows)

        return module.register_forward_hook(note)

    handles = [watch(name, module) for name, module in model.module.named_modules()]
    try:
        model.objective.outputs(model.module, batch)
    finally:
        for handle in handles:
            handle.remove()
    return largest, sizes
