"""Writes an array whose rows come one batch after the other, in batches of any size."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from forwardinf_core.store.arrays import ArrayWriter, Layout
from forwardinf_core.store.binding import Binding


class RowWriter:
    """Writes rows as they come, in blocks of the array's size; blocks that are there already are left."""

    def __init__(self, folder: Path, layout: Layout, binding: Binding) -> None:
        self._writer = ArrayWriter(folder, layout, binding)
        self._writer.__enter__()
        self._missing = dict(self._writer.missing())
        self._waiting: list[Tensor] = []
        self._start = 0
        self._layout = layout

    def add(self, rows: Tensor) -> None:
        """Take more rows."""
        self._waiting.append(rows)
        while sum(len(part) for part in self._waiting) >= self._layout.rows_per_block:
            self._flush()

    def close(self) -> None:
        """Write what is left."""
        if self._start < self._layout.shape[0]:
            self._flush()
        self._writer.__exit__(None, None, None)

    def _flush(self) -> None:
        rows = torch.cat(self._waiting)
        stop = min(self._start + self._layout.rows_per_block, self._layout.shape[0])
        count = stop - self._start
        if self._start in self._missing:
            self._writer.write(self._start, rows[:count])
        self._waiting, self._start = [rows[count:]], stop
