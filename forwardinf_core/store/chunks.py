"""Finished pieces of long work: one safetensors file a piece, checksummed, there as a whole or not at all."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from forwardinf_core.store.binding import Binding
from forwardinf_core.store.files import make_folder, read_json, remove_leftovers, write_bytes, write_json

if TYPE_CHECKING:
    from torch import Tensor

KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=-]{0,120}")
MANIFEST = "manifest.json"
SEAL = "seal"


class ChunkStore:
    """Named results of a piece of work, in a folder bound to what the work is made from.

    Every file carries the SHA-256 of its tensors and the key of its binding, so that a torn, damaged or foreign file is
    discarded and the piece computed again. Several processes may use one folder: equal keys hold equal content.
    """

    def __init__(self, folder: Path, binding: Binding) -> None:
        """Open or create. Raises StoreError where the folder belongs to another binding, or cannot be written."""
        self.folder = folder
        self.binding = binding
        make_folder(folder)
        found = read_json(folder / MANIFEST)
        if found is None:  # new, or the manifest is damaged: each chunk still says what it belongs to
            write_json(folder / MANIFEST, binding.record())
        else:
            binding.check(found, folder)
        self._binding_key = binding.key()
        self.found = 0  # chunks that get returned: work that an earlier attempt did

    def get(self, key: str) -> dict[str, Tensor] | None:
        """Return the tensors of a finished chunk, or None where it must be computed."""
        path = self._path(key)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        tensors = self._verified(content)
        if tensors is None:
            path.unlink(missing_ok=True)
        else:
            self.found += 1
        return tensors

    def put(self, key: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep a chunk. When this returns, it survives a kill and a power loss. Raises DiskFullError, StoreError."""
        from safetensors.torch import save

        own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        write_bytes(self._path(key), save(own, {SEAL: self._seal_of(own)}))

    def drop(self, key: str) -> None:
        """Remove a chunk that a later one has made useless."""
        self._path(key).unlink(missing_ok=True)

    def keys(self) -> list[str]:
        """Return the names of the chunks on disk, sorted; they are verified when they are read."""
        return sorted(path.name.removesuffix(".safetensors") for path in self.folder.glob("*.safetensors"))

    def remove(self) -> None:
        """Remove every chunk, and the folder where nothing else is in it."""
        remove_leftovers(self.folder)
        for path in [*self.folder.glob("*.safetensors"), self.folder / MANIFEST]:
            path.unlink(missing_ok=True)
        try:
            self.folder.rmdir()
        except OSError:  # not empty (a lock, arrays of the job) or gone: not ours to remove
            return

    def _path(self, key: str) -> Path:
        assert KEY.fullmatch(key), key
        return self.folder / f"{key}.safetensors"

    def _verified(self, content: bytes) -> dict[str, Tensor] | None:
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            tensors = load(content)
            (length,) = struct.unpack_from("<Q", content)
            metadata = json.loads(content[8 : 8 + length])["__metadata__"]
        except (SafetensorError, struct.error, ValueError, KeyError):
            return None
        return tensors if metadata.get(SEAL) == self._seal_of(tensors) else None

    def _seal_of(self, tensors: Mapping[str, Tensor]) -> str:
        """Return digest and binding in one entry: the order of several would differ from file to file."""
        return f"{digest_of(tensors)} {self._binding_key}"


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 over names, types, shapes and bytes of contiguous CPU tensors, in the order of their names."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
