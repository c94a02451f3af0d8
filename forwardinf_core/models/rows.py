"""Rows as the batches a model takes: decoded and preprocessed, or as tokens, with labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from forwardinf_core.datasets.rows import DataRows, images_of, texts_of
from forwardinf_core.errors import DataError, ShapeError
from forwardinf_core.influence.objective import Batch
from forwardinf_core.models.audit_model import AuditModel


def inputs_of(model: AuditModel, rows: DataRows, positions: Sequence[int]) -> Batch:
    """Return some rows as the model reads them, without labels."""
    if model.content == "text":
        return model.encoding([texts_of(rows).text(position) for position in positions])
    return {"x": model.preprocessing([images_of(rows).image(position) for position in positions])}


class ModelRows:
    """Rows for the engine (``influence.network.Rows``): the model's inputs and ``label`` (n,) int64.

    Inputs are ``x`` (n, c, h, w) float32 for images, ``input_ids`` and ``attention_mask`` (n, length) for texts.
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
        self.rows = rows
        self._pixels = pixels
        self._labels = torch.from_numpy(rows.labels.copy())

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, start: int, stop: int) -> Batch:
        labels = {"label": self._labels[start:stop]}
        if self.model.content == "text":
            return inputs_of(self.model, self.rows, range(start, min(stop, len(self)))) | labels
        x = self.model.preprocessing.normalise(self.pixels(start, stop))
        return {"x": x.contiguous(memory_format=torch.channels_last)} | labels

    def pixels(self, start: int, stop: int) -> Tensor:
        """Return rows start … stop − 1 as bytes, (n, c, h, w) uint8: from the cache, or decoded now."""
        if self._pixels is not None:
            return self._pixels[start:stop]
        images = [images_of(self.rows).image(position) for position in range(start, min(stop, len(self.rows)))]
        return self.model.preprocessing.pixels(images)
