"""What is compared of every row: its content and what the model makes of it, made once per split and kept on disk.

For each row: its content (pictures.py, wordings.py), the model's activations half-way, the head's input and the outputs
(influence/probe.py). Pictures that are asked about are described as they are and mirrored.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from forwardinf_core.audits.leakage.medium import Items, dictionary_of, medium_of
from forwardinf_core.audits.preparation import Workplace
from forwardinf_core.audits.scopes import BATCH, BLOCK
from forwardinf_core.datasets.rows import DataRows
from forwardinf_core.influence.probe import OUTPUTS, Probe, middle_layer
from forwardinf_core.store.arrays import ArrayWriter, Layout, is_complete, open_tensor
from forwardinf_core.store.binding import Binding

VERSION = 2  # rises when the same rows would be described otherwise

Describe = Callable[[Items], dict[str, Tensor]]


@dataclass(frozen=True, eq=False)
class Traces:
    """Descriptions of n rows by name (content signals, HALFWAY, FEATURES, OUTPUTS), each (n, …) float32.

    What the model cannot give (no graph, no head) is missing.
    """

    parts: dict[str, Tensor]

    def __len__(self) -> int:
        return len(self.parts[OUTPUTS])

    def rows(self, start: int, stop: int) -> Traces:
        """Return the descriptions of rows start … stop − 1."""
        return Traces({name: value[start:stop] for name, value in self.parts.items()})


def describer_of(place: Workplace) -> Describe:
    """Return what describes rows: by content, and as the model of an audit sees them."""
    graph = place.graph()
    probe = Probe(graph, head=place.model.head, layer=middle_layer(graph))
    dictionary = dictionary_of(place.train)

    def describe(items: Items) -> dict[str, Tensor]:
        return items.seen(dictionary) | probe(items.inputs(place.model))

    return describe


def described(place: Workplace, rows: DataRows, *, mirrored: bool = False) -> Traces:
    """Return the descriptions of all rows of a split, memory-mapped; made where they are missing, in blocks."""
    bound = _binding(place, rows, mirrored)
    folder = place.audit_dir / "caches" / f"traces-{bound.key()[:16]}"
    if not _is_complete(folder, bound):
        _write(folder, bound, place, rows, mirrored)
    return Traces({path.name: open_tensor(path, bound) for path in sorted(folder.iterdir()) if path.is_dir()})


def _write(folder: Path, bound: Binding, place: Workplace, rows: DataRows, mirrored: bool) -> None:
    describe, medium = describer_of(place), medium_of(rows.content)

    def computed(start: int, stop: int) -> dict[str, Tensor]:
        items = medium.taken(rows, range(start, stop))
        return describe(items.mirrored() if mirrored else items)

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


def _binding(place: Workplace, rows: DataRows, mirrored: bool) -> Binding:
    prints = {"model": place.model.fingerprint, "train": place.train.fingerprint, "rows": rows.fingerprint}
    return Binding("traces", prints, {"mirrored": mirrored, "batch": BATCH}, VERSION)


def _is_complete(folder: Path, bound: Binding) -> bool:
    arrays = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    return OUTPUTS in {path.name for path in arrays} and all(is_complete(path, bound) for path in arrays)
