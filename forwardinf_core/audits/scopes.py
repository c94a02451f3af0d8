"""The three networks an audit scores with (head, tail, whole model), each on rows that are read as cheaply as possible.

A scope's cache is made once per model and training set: the activations at which the moved part begins (for head and
tail) and the outputs of the unchanged model. It is memory-mapped, written in blocks that survive a kill, and bound to
the fingerprints of model and rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from forwardinf_core.audits.context import Context
from forwardinf_core.datasets.rows import DataRows
from forwardinf_core.errors import ModelError
from forwardinf_core.influence.anatomy import NO_HEAD, NO_HEAD_HINT, NO_TAIL, NO_TAIL_HINT
from forwardinf_core.influence.graph import GraphNetwork
from forwardinf_core.influence.head import FEATURES, HeadNetwork
from forwardinf_core.influence.network import FullNetwork, Network, Rows, slices
from forwardinf_core.influence.objective import Batch
from forwardinf_core.influence.split import cut as cut_graph
from forwardinf_core.models.audit_model import AuditModel
from forwardinf_core.models.rows import ModelRows
from forwardinf_core.store.arrays import ArrayWriter, Layout, is_complete, open_tensor
from forwardinf_core.store.binding import Binding

BATCH = 200  # rows of one forward pass: the fastest on two cores
BLOCK = 1000  # rows of one block on disk, a multiple of BATCH so that cached and fresh batches have the same rows
OUTPUTS = "outputs"
BATCH_ROWS = "batch_rows"
SHAPE_ROWS = 2  # rows that the shapes of a cache are read off


@dataclass(frozen=True)
class Scope:
    """A network ready to score: what may move, the training rows as it reads them, and their unchanged outputs.

    ``embed`` turns a batch of the model's inputs into a batch of this network (through the frozen trunk).
    ``batch_rows`` says of each row how many rows the batch had that its base outputs come from.
    """

    name: str
    network: Network
    rows: Rows
    base_outputs: Tensor  # (n_train, …)
    batch_rows: Tensor  # (n_train,) int32
    embed: Callable[[Batch], Batch]
    folder: Path


@dataclass(frozen=True)
class Cut:
    """A network without its cache: what turns model inputs into its inputs, and what the cache has to hold."""

    name: str
    network: Network
    embed: Callable[[Batch], Batch]
    cached: tuple[str, ...]  # names of the activations kept on disk; none for the whole model


@dataclass(frozen=True)
class CachedRows:
    """Training rows as cached activations with their labels."""

    activations: dict[str, Tensor]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, start: int, stop: int) -> Batch:
        """Return rows start … stop − 1, images in the memory layout that convolutions are fastest in."""
        batch = {name: _laid_out(value[start:stop]) for name, value in self.activations.items()}
        return batch | {"label": self.labels[start:stop]}


def cut(model: AuditModel, name: str, graph: Callable[[], GraphNetwork]) -> Cut:
    """Cut the model for a scope. Raises ModelError with a sentence where the model has no such part.

    ``graph`` returns the whole model as a graph; it is asked for only where something is cut.
    """
    if name == "full":
        return Cut(name, FullNetwork(model.module, model.objective), dict, ())
    if name == "tail":
        if model.tail is None:
            raise ModelError(NO_TAIL, hint=NO_TAIL_HINT)
        part = cut_graph(graph(), model.tail)
        kept = tuple(entry for entry in part.tail.inputs if entry not in part.tail.loss_entries)
        return Cut(name, part.tail, part.trunk, kept)
    assert name == "head", name
    if model.head is None:
        raise ModelError(NO_HEAD, hint=NO_HEAD_HINT)
    part = cut_graph(graph(), [model.head])
    (activation,) = part.tail.inputs

    def embed(batch: Batch) -> Batch:
        found = part.trunk(batch)
        return {FEATURES if entry == activation else entry: value for entry, value in found.items()}

    return Cut(name, HeadNetwork.of_tail(part.tail, model.head), embed, (FEATURES,))


def binding(kind: str, model: AuditModel, train: DataRows, **options: str | int | float | None) -> Binding:
    """Return what a cache of this model and these rows is bound to."""
    return Binding(kind, {"model": model.fingerprint, "train": train.fingerprint}, {"batch": BATCH, **options})


def scope_binding(model: AuditModel, train: DataRows, name: str) -> Binding:
    """Return the binding of a scope's cache."""
    parts = {"head": model.head, "tail": ",".join(model.tail or ())}
    return binding(f"scope-{name}", model, train, part=parts.get(name))


def scope_folder(audit_dir: Path, model: AuditModel, train: DataRows, name: str) -> Path:
    """Return the folder of a scope's cache."""
    return audit_dir / "caches" / f"{name}-{scope_binding(model, train, name).key()[:16]}"


def is_cached(audit_dir: Path, model: AuditModel, train: DataRows, name: str) -> bool:
    """Say whether the scope's cache is complete."""
    folder, bound = scope_folder(audit_dir, model, train, name), scope_binding(model, train, name)
    names = [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    return {OUTPUTS, BATCH_ROWS} <= set(names) and all(is_complete(folder / array, bound) for array in names)


@torch.inference_mode()
def write_cache(audit_dir: Path, model: AuditModel, train: DataRows, piece: Cut, context: Context) -> None:
    """Run the frozen part once over all training rows and keep what the scope needs; goes on where it was stopped."""
    folder, bound = scope_folder(audit_dir, model, train, piece.name), scope_binding(model, train, piece.name)
    rows = ModelRows(model, train)
    first = _computed(piece, rows, 0, min(SHAPE_ROWS, len(rows)))
    writers = {
        name: ArrayWriter(folder / name, Layout((len(rows), *value.shape[1:]), _kept_dtype(value), BLOCK), bound)
        for name, value in first.items()
    }
    opened = []
    try:
        for writer in writers.values():
            opened.append(writer.__enter__())
        missing = sorted({block for writer in writers.values() for block in writer.missing()})
        done = len(rows) - sum(stop - start for start, stop in missing)
        context.report(done, len(rows), "Reading the training rows")
        for start, stop in missing:
            values = context.halve_on_out_of_memory(partial(_block, piece, rows, start, stop), BATCH)
            for name, writer in writers.items():
                writer.write(start, values[name])
            done += stop - start
            context.report(done, len(rows), "Reading the training rows")
    finally:
        for writer in opened:
            writer.__exit__()


def open_scope(audit_dir: Path, model: AuditModel, train: DataRows, piece: Cut) -> Scope:
    """Open a scope whose cache is complete. Raises StoreError where it is not."""
    folder, bound = scope_folder(audit_dir, model, train, piece.name), scope_binding(model, train, piece.name)
    outputs, batch_rows = open_tensor(folder / OUTPUTS, bound), open_tensor(folder / BATCH_ROWS, bound)
    rows: Rows = ModelRows(model, train)
    if piece.cached:
        activations = {name: open_tensor(folder / name, bound) for name in piece.cached}
        rows = CachedRows(activations, torch.from_numpy(train.labels.copy()))
    return Scope(piece.name, piece.network, rows, outputs, batch_rows, piece.embed, folder)


def _block(piece: Cut, rows: Rows, start: int, stop: int, size: int) -> dict[str, Tensor]:
    parts = [_computed(piece, rows, start + first, start + last) for first, last in slices(stop - start, size)]
    whole = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return {name: value.to(getattr(torch, _kept_dtype(value))) for name, value in whole.items()}


def _kept_dtype(value: Tensor) -> str:
    """Return the type a value is kept in: its own for masks and tokens, float32 for activations."""
    return "float32" if value.is_floating_point() else str(value.dtype).removeprefix("torch.")


def _computed(piece: Cut, rows: Rows, start: int, stop: int) -> dict[str, Tensor]:
    embedded = {name: _laid_out(value) for name, value in piece.embed(rows.batch(start, stop)).items()}
    outputs = piece.network.outputs(piece.network.parameters, embedded)
    made = {OUTPUTS: outputs, BATCH_ROWS: torch.full((stop - start,), stop - start, dtype=torch.int32)}
    return {name: embedded[name] for name in piece.cached} | made


def _laid_out(value: Tensor) -> Tensor:
    return value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value
