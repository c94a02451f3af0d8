"""Image rows as the batches a model takes: decoded, preprocessed, with labels."""

from __future__ import annotations

import torch
from torch import Tensor

from forwardinf_core.datasets.rows import DataRows, images_of
from forwardinf_core.errors import DataError, ShapeError
from forwardinf_core.influence.objective import Batch
from forwardinf_core.models.audit_model import AuditModel


class ModelRows:
    """Rows for the engine (``influence.network.Rows``): ``x`` (n, c, h, w) float32 and ``label`` (n,) int64.

    ``pixels`` (n_rows, c, h, w) uint8, possibly memory-mapped, spares decoding: what ``preprocessing.pixels`` gave
    for these very rows. A row without a label has no loss: DataError, unless ``needs_labels`` is False (outputs only).
    """

    def __init__(
        self, model: AuditModel, rows: DataRows, pixels: Tensor | None = None, *, needs_labels: bool = True
    ) -> None:
        if tuple(rows.classes) != model.classes:
            raise ShapeError(
                f"The rows have {len(rows.classes)} classes and the model {len(model.classes)}, or in another order.",
                hint="Open the rows with the classes of the model.",
            )
        if pixels is not None and (len(pixels) != len(rows) or pixels.dtype != torch.uint8):
            raise ShapeError(
                f"The pixel cache holds {len(pixels)} rows of {pixels.dtype}.", hint=f"Expected {len(rows)} of uint8."
            )
        unlabelled = int((rows.labels < 0).sum())
        if unlabelled and needs_labels:
            raise DataError(
                f"{unlabelled} of {len(rows)} rows have no label, and a loss needs one.",
                hint="Give them a label or leave them out.",
            )
        self.model = model
        self.rows = images_of(rows)
        self._pixels = pixels
        self._labels = torch.from_numpy(rows.labels.copy())

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, start: int, stop: int) -> Batch:
        x = self.model.preprocessing.normalise(self.pixels(start, stop))
        return {"x": x.contiguous(memory_format=torch.channels_last), "label": self._labels[start:stop]}

    def pixels(self, start: int, stop: int) -> Tensor:
        """Return rows start … stop − 1 as bytes, (n, c, h, w) uint8: from the cache, or decoded now."""
        if self._pixels is not None:
            return self._pixels[start:stop]
        images = [self.rows.image(position) for position in range(start, min(stop, len(self.rows)))]
        return self.model.preprocessing.pixels(images)
