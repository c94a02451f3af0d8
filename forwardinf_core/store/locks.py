"""Turns between processes: a lock that the operating system holds for a process and takes back when it dies.

The file may stay behind; what counts is the lock on it, so there is no stale lock to judge by age or process number.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from forwardinf_core.errors import StoreError
from forwardinf_core.store.files import disk_errors

POLL_S = 0.02
FOREVER = -1.0


@contextmanager
def turn(path: Path, timeout_s: float = FOREVER) -> Iterator[bool]:
    """Hold the lock and yield True, or yield False where another holds it for longer than ``timeout_s``.

    The folder must exist. Raises StoreError where the file cannot be made.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=timeout_s, poll_interval=POLL_S)
    except Timeout:
        yield False
        return
    except NotImplementedError as error:
        raise StoreError(
            f"{path.parent} is on a disk without locks.", hint="Choose a folder on a local disk."
        ) from error
    except OSError:
        with disk_errors(path):
            raise
    try:
        yield True
    finally:
        lock.release()
