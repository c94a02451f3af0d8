"""Files that are there as a whole or not at all, and the sentences for a disk that does not take them."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from forwardinf_core.errors import DiskFullError, StoreError

FULL = {errno.ENOSPC, errno.EDQUOT}
FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
TEMPORARY_PREFIX = ".writing-"
READ_SIZE = 1 << 20


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what the disk says while ``path`` is written into one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise DiskFullError(
                f"The disk is full: {path} could not be written.",
                hint="Make room and resume; everything finished so far is kept.",
            ) from error
        if error.errno in FORBIDDEN:
            raise StoreError(
                f"{path} may not be written.", hint="Give this user write permission, or choose another folder."
            ) from error
        if isinstance(error, FileNotFoundError):
            raise StoreError(
                f"{path.parent} is not there any more.",
                hint="It was moved or deleted while it was in use; start again.",
            ) from error
        raise StoreError(
            f"{path} could not be written: {error.strerror}.", hint="Look at the disk it is on."
        ) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file as a whole: temporary name in the same folder, flush to the disk, rename.

    The folder must exist. Raises DiskFullError or StoreError; the old file, if any, is then untouched.
    """
    with disk_errors(path):
        handle, name = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        flush_folder(path.parent)


def write_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Put the files that ``write(draft)`` makes into a folder, each whole or not at all, safetensors last."""
    make_folder(folder)
    draft = folder / f"{TEMPORARY_PREFIX}files"
    shutil.rmtree(draft, ignore_errors=True)
    make_folder(draft)
    with disk_errors(folder):
        write(draft)
        for file in sorted(draft.iterdir(), key=lambda path: path.suffix == ".safetensors"):
            os.replace(file, folder / file.name)
        draft.rmdir()


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write a JSON object as a whole."""
    write_bytes(path, json.dumps(content, indent=1, sort_keys=True).encode())


def read_json(path: Path) -> dict[str, object] | None:
    """Return a JSON object, or None where the file is missing, torn or holds something else."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def make_folder(path: Path) -> None:
    """Create a folder and its parents. Raises StoreError in one sentence."""
    with disk_errors(path):
        path.mkdir(parents=True, exist_ok=True)


def flush_folder(path: Path) -> None:
    """Make the names in a folder survive a power loss, on systems where folders can be flushed."""
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed writers left under temporary names. Only for a folder that no one else writes to."""
    for path in folder.glob(f"{TEMPORARY_PREFIX}*"):
        path.unlink(missing_ok=True)


def sha256(content: bytes | memoryview) -> str:
    """Return the SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while content := file.read(READ_SIZE):
            digest.update(content)
    return digest.hexdigest()


def allocated_bytes(folder: Path) -> int:
    """Return the room that the files under a folder take on the disk; a sparse file counts what is written of it."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                status = os.stat(Path(root) / name)
            except FileNotFoundError:  # renamed or removed while we looked
                continue
            blocks = getattr(status, "st_blocks", None)
            total += status.st_size if blocks is None else blocks * 512
    return total
