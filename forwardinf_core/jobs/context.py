"""What a job is given: its project, its finished chunks, and ways to tell how far it is."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from forwardinf_core.errors import CancelledError, JobError
from forwardinf_core.store.chunks import ChunkStore

Result = TypeVar("Result")
REPORT_EVERY_S = 0.1
RATE_WINDOW_S = 30.0


@dataclass(frozen=True)
class Progress:
    """How far a job is. ``rate`` is in units a second over the last half minute of fresh work; None at first."""

    done: float
    total: float
    note: str
    rate: float | None


Report = Callable[[Progress], None]


def _not_cancelled() -> bool:
    return False


def _no_log(_text: str) -> None:
    return


@dataclass
class JobContext:
    """The surroundings of one run of a job function.

    The unit of work is the chunk: look it up in ``chunks``, compute and put it where it is missing, then ``report``.
    Seeds belong to chunks (derive them from the options and the chunk's number), never to the process, so that an
    interrupted and resumed job ends bit-equal to an undisturbed one. ``chunks`` are removed when the job is done: what
    is to stay goes into a run (store.runs) or an array (store.arrays).
    """

    project: Path
    chunks: ChunkStore
    fingerprints: Mapping[str, str]
    on_report: Report
    on_log: Callable[[str], None] = _no_log
    is_cancelled: Callable[[], bool] = _not_cancelled
    halvings: int = 0  # of every batch size, known from an earlier attempt
    _reported_s: float = field(default=float("-inf"), init=False)
    _seen: deque[tuple[float, float]] = field(default_factory=deque, init=False)  # (monotonic time, done)
    _found: int = field(default=0, init=False)

    def report(self, done: float, total: float, note: str = "") -> None:
        """Say how far the work is; call it after each chunk, or oftener: it costs microseconds.

        Raises CancelledError when the person asked to stop, and JobError when the project's folder has gone.
        """
        if self.is_cancelled():
            raise CancelledError(
                "The job was cancelled.", hint="Its finished chunks are kept; retry goes on from them."
            )
        now = time.monotonic()
        if now - self._reported_s < REPORT_EVERY_S and done < total:
            return
        self._reported_s = now
        if not self.project.is_dir():
            raise project_gone(self.project)
        self.on_report(Progress(done, total, note, self._rate(now, done)))

    def _rate(self, now: float, done: float) -> float | None:
        if self.chunks.found != self._found or (self._seen and done < self._seen[-1][1]):
            self._seen.clear()  # reading what is there already says nothing of how fast the rest will be
            self._found = self.chunks.found
        self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[1][0] > RATE_WINDOW_S:
            self._seen.popleft()
        first_s, first = self._seen[0]
        elapsed = now - first_s
        return (done - first) / elapsed if elapsed > 0 and done > first else None

    def log(self, text: str) -> None:
        """Add a line to the job's log."""
        self.on_log(text)

    def halve_on_out_of_memory(self, compute: Callable[[int], Result], batch_size: int) -> Result:
        """Return ``compute(batch_size)``, with the batch halved as often as memory makes necessary.

        What was learned holds for the rest of the job. A changed batch may change the last bits of a result, which the
        log says. Raises JobError where a batch of one row does not fit.
        """
        while True:
            size = max(batch_size >> self.halvings, 1)
            try:
                return compute(size)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                if size == 1:
                    raise JobError(
                        "One row at a time does not fit into memory.", hint="Use a machine with more memory."
                    ) from error
            self.halvings += 1
            self.log(f"Out of memory with batches of {size}: going on with {max(batch_size >> self.halvings, 1)}.")


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an exception means that memory ran out: Python's, or PyTorch's on any device."""
    if isinstance(error, MemoryError):
        return True
    said = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        words in said for words in ("out of memory", "can't allocate memory", "not enough memory")
    )


def project_gone(project: Path) -> JobError:
    """Return the error of a job whose project was deleted or moved."""
    return JobError(
        f"The project folder {project} was deleted or moved while its job ran.",
        hint="Put it back and retry; chunks that are still there are used.",
    )
