"""What is compared of every row: its content and what the model makes of it, made once per split and kept on disk.

For each row: the perceptual hash and the small grey picture (content.py), the model's activations half-way, the head's
input and the outputs (influence/probe.py). Rows that are asked about are described as they are and mirrored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from forwardinf_core.audits.leakage import content
from forwardinf_core.audits.preparation import Workplace
from forwardinf_core.audits.scopes import BATCH, BLOCK
from forwardinf_core.datasets.rows import ImageRows
from forwardinf_core.influence.probe import FEATURES, HALFWAY, OUTPUTS, Probe, middle_layer
from forwardinf_core.models.audit_model import AuditModel
from forwardinf_core.store.arrays import ArrayWriter, Layout, is_complete, open_tensor
from forwardinf_core.store.binding import Binding

HASH, GREY = "hash", "grey"
MODEL_PARTS = (HALFWAY, FEATURES, OUTPUTS)
VERSION = 1  # rises when the same rows would be described otherwise

Describe = Callable[[Sequence[Image.Image]], dict[str, Tensor]]


@dataclass(frozen=True, eq=False)
class Traces:
    """Descriptions of n rows by name (HASH, GREY, HALFWAY, FEATURES, OUTPUTS), each (n, …) float32.

    What the model cannot give (no graph, no head) is missing.
    """

    parts: dict[str, Tensor]

    def __len__(self) -> int:
        return len(self.parts[GREY])

    def rows(self, start: int, stop: int) -> Traces:
        """Return the descriptions of rows start … stop − 1."""
        return Traces({name: value[start:stop] for name, value in self.parts.items()})


def describer(model: AuditModel, probe: Probe) -> Describe:
    """Return what describes images: by content, and as the model sees them."""

    def describe(images: Sequence[Image.Image]) -> dict[str, Tensor]:
        x = model.preprocessing(images).contiguous(memory_format=torch.channels_last)
        seen = {HASH: torch.from_numpy(content.hashes(images)), GREY: torch.from_numpy(content.grey_pictures(images))}
        return seen | probe({"x": x})

    return describe


def describer_of(place: Workplace) -> Describe:
    """Return what describes images for the model of an audit."""
    graph = place.graph()
    return describer(place.model, Probe(graph, head=place.model.head, layer=middle_layer(graph)))


def described(place: Workplace, rows: ImageRows, *, mirrored: bool = False) -> Traces:
    """Return the descriptions of all rows of a split, memory-mapped; made where they are missing, in blocks."""
    bound = _binding(place.model, rows, mirrored)
    folder = place.audit_dir / "caches" / f"traces-{bound.key()[:16]}"
    if not _is_complete(folder, bound):
        _write(folder, bound, place, rows, mirrored)
    return Traces({path.name: open_tensor(path, bound) for path in sorted(folder.iterdir()) if path.is_dir()})


def _write(folder: Path, bound: Binding, place: Workplace, rows: ImageRows, mirrored: bool) -> None:
    describe = describer_of(place)

    def computed(start: int, stop: int) -> dict[str, Tensor]:
        images = [rows.image(position) for position in range(start, stop)]
        return describe([content.mirrored(image) for image in images] if mirrored else images)

    note = "Describing the rows, mirrored" if mirrored else "Describing the rows"
    shapes = {name: value.shape[1:] for name, value in computed(0, min(2, len(rows))).items()}
    with ExitStack() as held:
        writers = {
            name: held.enter_context(ArrayWriter(folder / name, Layout((len(rows), *shape), "float32", BLOCK), bound))
            for name, shape in shapes.items()
        }
        missing = sorted({block for writer in writers.values() for block in writer.missing()})
        done = len(rows) - sum(stop - start for start, stop in missing)
        for start, stop in missing:
            pieces = [computed(at, min(at + BATCH, stop)) for at in range(start, stop, BATCH)]
            for name, writer in writers.items():
                writer.write(start, torch.cat([piece[name] for piece in pieces]))
            done += stop - start
            place.context.report(done, len(rows), note)


def _binding(model: AuditModel, rows: ImageRows, mirrored: bool) -> Binding:
    prints = {"model": model.fingerprint, "rows": rows.fingerprint}
    return Binding("traces", prints, {"mirrored": mirrored, "batch": BATCH}, VERSION)


def _is_complete(folder: Path, bound: Binding) -> bool:
    arrays = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    return {GREY, OUTPUTS} <= {path.name for path in arrays} and all(is_complete(path, bound) for path in arrays)
