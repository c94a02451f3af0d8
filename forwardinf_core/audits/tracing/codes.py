"""Short codes of all training texts: one product with them scores a question before any text passes through the model.

Made once per method, float16, memory-mapped; what a code is stands in influence/language_sketch.py.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from forwardinf_core.influence.language_sketch import SIDE, Sketch, drawn_sketch
from forwardinf_core.influence.network import slices
from forwardinf_core.influence.update import Update
from forwardinf_core.store.arrays import Layout, is_complete, open_tensor
from forwardinf_core.store.binding import Binding, Option
from forwardinf_core.store.row_writer import RowWriter

if TYPE_CHECKING:
    from forwardinf_core.audits.tracing.methods import TraceMethod
    from forwardinf_core.audits.tracing.preparation import Report, Workplace

PIECES_PER_BLOCK = 2_048


class TextCodes:
    """The codes of a corpus by one method. ``named``: what moves and through which curvature, which is fitted."""

    def __init__(self, place: Workplace, method: TraceMethod, named: str, *, seed: int, version: int) -> None:
        self._place = place
        curvature = place.curvature(method)
        assert curvature is not None
        side = SIDE
        while side > 4 and len(place.pieces) * len(curvature.parts) * side * side * 2 > place.hidden_bound:
            side -= 4
        self.sketch: Sketch = drawn_sketch(curvature, damping=method.damping, side=side, seed=seed)
        options: dict[str, Option] = {
            "method": named,
            "texts": method.fisher_texts,
            "seed": seed,
            "damping": method.damping,
            "side": self.sketch.side,
        }
        self._bound = Binding("trace-codes", place.fingerprints, options, version)
        self._folder = place.caches / f"trace-codes-{self._bound.key()[:12]}"

    @property
    def are_kept(self) -> bool:
        """Say whether the codes are on disk, whole."""
        return is_complete(self._folder, self._bound)

    def make(self, report: Report) -> None:
        """Write what is missing. Cost: a forward and a backward pass over the corpus."""
        if self.are_kept:
            return
        pieces, model = self._place.pieces, self._place.model
        writer = RowWriter(
            self._folder, Layout((len(pieces), self.sketch.size), "float16", PIECES_PER_BLOCK), self._bound
        )
        matrices = [part.matrix for part in self.sketch.curvature.parts]
        for positions in self._place.gradient_batches(np.arange(len(pieces)), matrices):
            writer.add(self.sketch.of_texts(model.module, model.objective, pieces.batch(positions)).half())
            report((positions[-1] + 1) / len(pieces), "Writing a code of each text")
        writer.close()

    @cached_property
    def values(self) -> Tensor:
        """The codes of all pieces, memory-mapped, (n_pieces, size) float16; they must be on disk."""
        return open_tensor(self._folder, self._bound)

    def scores(self, update: Update) -> Tensor:
        """Return every piece's score in the limit of a short step, (n_pieces,)."""
        asked = self.sketch.of_change(update.changes)
        parts = [self.values[start:stop].float() @ asked for start, stop in self._blocks]
        return torch.cat(parts) if parts else torch.zeros(0)

    @cached_property
    def norms(self) -> Tensor:
        """How strongly each piece moves the model whatever is asked, (n_pieces,): the squares of its code."""
        parts = [self.values[start:stop].float().square().sum(1) for start, stop in self._blocks]
        return torch.cat(parts) if parts else torch.zeros(0)

    @property
    def _blocks(self) -> list[tuple[int, int]]:
        return list(slices(len(self.values), PIECES_PER_BLOCK))
