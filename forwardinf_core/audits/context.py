"""What work on an audit is given: a place to keep finished pieces, and someone to tell how far it is."""

from __future__ import annotations

from typing import Protocol

from forwardinf_core.store.chunks import ChunkStore


class Context(Protocol):
    """The context of a job (``jobs.context.JobContext``), or ``AtOnce``."""

    @property
    def chunks(self) -> ChunkStore: ...

    def report(self, done: float, total: float, note: str = "") -> None: ...


class AtOnce:
    """The context of work that takes milliseconds: nothing to keep, nobody to tell."""

    @property
    def chunks(self) -> ChunkStore:
        raise AssertionError("quick work keeps no chunks")

    def report(self, done: float, total: float, note: str = "") -> None:
        """Tell nobody."""
