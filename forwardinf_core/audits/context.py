"""What work on an audit is given: a place to keep finished pieces, and someone to tell how far it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from forwardinf_core.store.chunks import ChunkStore

Result = TypeVar("Result")


class Context(Protocol):
    """The context of a job (``jobs.context.JobContext``), or ``AtOnce``."""

    @property
    def chunks(self) -> ChunkStore: ...

    def report(self, done: float, total: float, note: str = "") -> None: ...

    def halve_on_out_of_memory(self, compute: Callable[[int], Result], batch_size: int) -> Result: ...


class AtOnce:
    """The context of work that takes milliseconds: nothing to keep, nobody to tell."""

    @property
    def chunks(self) -> ChunkStore:
        raise AssertionError("quick work keeps no chunks")

    def report(self, done: float, total: float, note: str = "") -> None:
        """Tell nobody."""

    def halve_on_out_of_memory(self, compute: Callable[[int], Result], batch_size: int) -> Result:
        """Return ``compute(batch_size)``: what takes milliseconds takes little memory."""
        return compute(batch_size)
