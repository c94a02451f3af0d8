"""Where an export goes: there as a whole under its name, or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from forwardinf_core.errors import StoreError
from forwardinf_core.store.files import TEMPORARY_PREFIX, disk_errors, flush_folder


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """Yield a path to write a file or folder to; it gets its name when the body ends well, else nothing is left.

    Raises StoreError where the target exists or its folder does not or may not be written, DiskFullError.
    """
    target = target.absolute()
    if os.path.lexists(target):
        raise StoreError(f"{target} exists already.", hint="Choose another name, or move it away first.")
    if not target.parent.is_dir():
        raise StoreError(f"There is no folder {target.parent}.", hint="Create it, or choose another one.")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise StoreError(f"{target.parent} may not be written.", hint="Choose a folder that this user may write.")
    draft = target.parent / f"{TEMPORARY_PREFIX}{secrets.token_hex(6)}{target.suffix}"
    try:
        with disk_errors(target):
            yield draft
            _flushed(draft)
            if os.path.lexists(target):  # another export was first
                raise FileExistsError(17, "it exists already")
            draft.rename(target)
            flush_folder(target.parent)
    finally:
        remove(draft)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _flushed(path: Path) -> None:
    """Make files survive a power loss; a link to a file that was there before needs nothing."""
    for file in [path] if path.is_file() else sorted(path.rglob("*")):
        if file.is_file() and not file.is_symlink() and file.stat().st_nlink == 1:
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
