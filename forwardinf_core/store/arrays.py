"""Big arrays by rows, memory-mapped: trunk activations, features, base outputs, pixels.

A folder holds ``data.bin`` (raw, row-major, little-endian), ``manifest.json`` (shape, type and binding) and
``blocks.jsonl``, one line a finished block of rows with its SHA-256, appended after the rows are on the disk. A killed
writer therefore leaves the blocks it finished, and a torn last line is no block.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from forwardinf_core.errors import StoreError
from forwardinf_core.store.binding import Binding
from forwardinf_core.store.files import disk_errors, make_folder, read_json, sha256, write_json
from forwardinf_core.store.locks import turn

if TYPE_CHECKING:
    from torch import Tensor

DATA, MANIFEST, BLOCKS, LOCK = "data.bin", "manifest.json", "blocks.jsonl", "lock"
DTYPES = ("float32", "float16", "float64", "uint8", "int32", "int64", "bool")


@dataclass(frozen=True)
class Layout:
    """Shape (rows first), NumPy name of the type, and how many rows are one block."""

    shape: tuple[int, ...]
    dtype: str
    rows_per_block: int

    def __post_init__(self) -> None:
        assert self.dtype in DTYPES, self.dtype
        assert self.rows_per_block > 0

    @property
    def row_bytes(self) -> int:
        return int(np.prod(self.shape[1:], dtype=np.int64)) * np.dtype(self.dtype).itemsize

    @property
    def bytes(self) -> int:
        return self.shape[0] * self.row_bytes

    def blocks(self) -> list[tuple[int, int]]:
        """Return (start, stop) of every block of rows, in order."""
        step = self.rows_per_block
        return [(start, min(start + step, self.shape[0])) for start in range(0, self.shape[0], step)]


class ArrayWriter:
    """Writes an array block by block; what an earlier writer finished is verified and kept.

    Use as ``with ArrayWriter(...) as writer: for start, stop in writer.missing(): writer.write(start, rows)``. One
    writer at a time holds a folder. Raises StoreError where the folder belongs to another binding.
    """

    def __init__(self, folder: Path, layout: Layout, binding: Binding) -> None:
        self.folder = folder
        self.layout = layout
        self.binding = binding
        self._held = ExitStack()
        self._done: dict[int, str] = {}

    def __enter__(self) -> ArrayWriter:
        make_folder(self.folder)
        with ExitStack() as held:
            if not held.enter_context(turn(self.folder / LOCK, 0)):
                raise StoreError(
                    f"{self.folder} is being written by another process.", hint="Wait for it to finish, or stop it."
                )
            self._open()
            self._held = held.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def missing(self) -> list[tuple[int, int]]:
        """Return (start, stop) of the blocks still to be written, in order."""
        return [(start, stop) for start, stop in self.layout.blocks() if start not in self._done]

    def write(self, start: int, rows: Tensor | NDArray[np.generic]) -> None:
        """Write the block that begins at row ``start``; when this returns, it survives a kill and a power loss."""
        stop = min(start + self.layout.rows_per_block, self.layout.shape[0])
        array = np.ascontiguousarray(rows if isinstance(rows, np.ndarray) else rows.detach().cpu().numpy())
        assert start % self.layout.rows_per_block == 0
        assert array.shape == (stop - start, *self.layout.shape[1:]), (array.shape, self.layout)
        assert array.dtype == np.dtype(self.layout.dtype), (array.dtype, self.layout)
        content = array.reshape(-1).view(np.uint8).data
        with disk_errors(self.folder / DATA), (self.folder / DATA).open("r+b") as file:
            file.seek(start * self.layout.row_bytes)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        digest = sha256(content)
        with disk_errors(self.folder / BLOCKS), (self.folder / BLOCKS).open("ab") as file:
            # the leading newline ends a line that an earlier writer was killed in
            file.write(f"\n{json.dumps({'start': start, 'sha256': digest})}\n".encode())
            file.flush()
            os.fsync(file.fileno())
        self._done[start] = digest

    def _open(self) -> None:
        record = _record(self.layout, self.binding)
        found = read_json(self.folder / MANIFEST)
        if found is not None:
            _check(found, record, self.binding, self.folder)
        else:  # new, or damaged: nothing here can be trusted
            (self.folder / BLOCKS).unlink(missing_ok=True)
            write_json(self.folder / MANIFEST, record)
        with disk_errors(self.folder / DATA):
            with (self.folder / DATA).open("ab") as file:
                file.truncate(self.layout.bytes)
            data = np.memmap(self.folder / DATA, np.uint8, "r") if self.layout.bytes else np.empty(0, np.uint8)
        for start, digest in _finished(self.folder).items():
            stop = min(start + self.layout.rows_per_block, self.layout.shape[0])
            if sha256(data[start * self.layout.row_bytes : stop * self.layout.row_bytes].data) == digest:
                self._done[start] = digest


def is_complete(folder: Path, binding: Binding) -> bool:
    """Say whether every block of the array is written. Raises StoreError where it belongs to another binding."""
    found = read_json(folder / MANIFEST)
    if found is None:
        return False
    binding.check(found.get("binding"), folder)
    layout = _layout(found)
    done = _finished(folder)
    size = (folder / DATA).stat().st_size if (folder / DATA).exists() else -1
    return layout is not None and size == layout.bytes and all(start in done for start, _ in layout.blocks())


def open_array(folder: Path, binding: Binding, *, verify: bool = False) -> NDArray[np.generic]:
    """Return a finished array, memory-mapped and read-only.

    ``verify`` reads all of it against its checksums (about a second a gigabyte); without it, sizes and the list of
    finished blocks are checked. Raises StoreError where it is unfinished, damaged or belongs to another binding.
    """
    layout = _opened_layout(folder, binding, verify)
    if not layout.bytes:
        return np.empty(layout.shape, layout.dtype)
    return np.memmap(folder / DATA, layout.dtype, "r", shape=layout.shape)


def open_tensor(folder: Path, binding: Binding, *, verify: bool = False) -> Tensor:
    """Return a finished array as a memory-mapped tensor, as open_array; writing to it never reaches the file."""
    import torch

    layout = _opened_layout(folder, binding, verify)
    dtype = getattr(torch, layout.dtype)
    if not layout.bytes:
        return torch.empty(layout.shape, dtype=dtype)
    size = layout.bytes // np.dtype(layout.dtype).itemsize
    return torch.from_file(str(folder / DATA), shared=False, size=size, dtype=dtype).reshape(layout.shape)


def _opened_layout(folder: Path, binding: Binding, verify: bool) -> Layout:
    hint = "It is a cache: it is completed by the work that makes it."
    if not is_complete(folder, binding):
        raise StoreError(f"The array {folder} is not complete.", hint=hint)
    found = read_json(folder / MANIFEST)
    layout = None if found is None else _layout(found)
    assert layout is not None
    with _damaged(folder, hint):
        if verify and layout.bytes:
            data = np.memmap(folder / DATA, np.uint8, "r")
            done = _finished(folder)
            for start, stop in layout.blocks():
                if sha256(data[start * layout.row_bytes : stop * layout.row_bytes].data) != done[start]:
                    raise StoreError(f"Rows {start} to {stop - 1} of the array {folder} are damaged.", hint=hint)
    return layout


@contextmanager
def _damaged(folder: Path, hint: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"The array {folder} cannot be read: {error.strerror}.", hint=hint) from error


def _record(layout: Layout, binding: Binding) -> dict[str, object]:
    return {
        "shape": list(layout.shape),
        "dtype": layout.dtype,
        "rows_per_block": layout.rows_per_block,
        "binding": binding.record(),
    }


def _check(found: dict[str, object], record: dict[str, object], binding: Binding, folder: Path) -> None:
    binding.check(found.get("binding"), folder)
    for name in ("shape", "dtype", "rows_per_block"):
        if found.get(name) != record[name]:
            raise StoreError(
                f"The array {folder} has {name} {found.get(name)}, not {record[name]}.",
                hint="Delete that folder; it is a cache and is made anew.",
            )


def _layout(found: dict[str, object]) -> Layout | None:
    shape, dtype, rows = found.get("shape"), found.get("dtype"), found.get("rows_per_block")
    if not (isinstance(shape, list) and shape and dtype in DTYPES and isinstance(rows, int) and rows > 0):
        return None
    return Layout(tuple(shape), str(dtype), rows)


def _finished(folder: Path) -> dict[int, str]:
    """Return the first row and the checksum of every block whose line is whole; a later line replaces an earlier."""
    done: dict[int, str] = {}
    try:
        lines = (folder / BLOCKS).read_bytes().split(b"\n")
    except FileNotFoundError:
        return done
    for line in lines:
        try:
            block = json.loads(line)
            done[int(block["start"])] = str(block["sha256"])
        except (ValueError, KeyError, TypeError):  # empty, or torn by a kill
            continue
    return done
