"""What long work will cost: a few chunks of it are done for good, and the rest is reckoned from them."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from forwardinf_core.jobs.context import Progress
from forwardinf_core.jobs.execution import available_threads, execute
from forwardinf_core.jobs.memory import available_bytes, peak_bytes, reset_peak
from forwardinf_core.jobs.registry import find_kind
from forwardinf_core.store.files import allocated_bytes
from forwardinf_core.store.places import audit_dir

STEPS = 4  # reports of fresh work after the first, which pays for loading
LIMIT_S = 30.0
RESERVE = 0.1  # of the disk and memory that is free, left to others


@dataclass(frozen=True)
class Forecast:
    """Time, memory and disk of the whole work, from now. ``seconds`` is None where nothing could be measured."""

    seconds: float | None
    peak_bytes: int
    disk_bytes: int
    free_disk_bytes: int
    free_memory_bytes: int

    @property
    def disk_fits(self) -> bool:
        return self.disk_bytes <= self.free_disk_bytes * (1 - RESERVE)

    @property
    def memory_fits(self) -> bool:
        return self.peak_bytes <= self.free_memory_bytes * (1 - RESERVE)

    @property
    def fits(self) -> bool:
        """Say whether disk and memory will do."""
        return self.disk_fits and self.memory_fits

    @property
    def brief(self) -> str:
        """The cost in a few words: "about 6 min, 700 MB of memory, 40 MB of disk"."""
        duration = "a time not known yet" if self.seconds is None else f"about {in_words(self.seconds)}"
        return f"{duration}, {in_bytes(self.peak_bytes)} of memory, {in_bytes(self.disk_bytes)} of disk"

    @property
    def warning(self) -> str:
        """Why it will not fit, or nothing."""
        said = []
        if not self.disk_fits:
            said.append(f"It will not fit: only {in_bytes(self.free_disk_bytes)} of disk are free.")
        if not self.memory_fits:
            said.append(f"It may not fit: only {in_bytes(self.free_memory_bytes)} of memory are free.")
        return " ".join(said)

    @property
    def sentence(self) -> str:
        """Cost and warning."""
        return f"It will take {self.brief}. {self.warning}".rstrip()


class _EnoughError(Exception):
    """Enough has been seen."""


@dataclass
class _Watch:
    """Reports of the dry run: (monotonic time, done, bytes on disk)."""

    folder: Path
    begun_s: float = field(default_factory=time.monotonic)
    seen: list[tuple[float, float, int]] = field(default_factory=list)
    total: float = 0.0

    def take(self, progress: Progress) -> None:
        self.total = progress.total
        if progress.rate is None:
            self.seen.clear()  # chunks found on disk cost nothing and say nothing
        if not self.seen or progress.done > self.seen[-1][1]:
            self.seen.append((time.monotonic(), progress.done, allocated_bytes(self.folder)))
        if len(self.seen) > STEPS + 1 or time.monotonic() - self.begun_s > LIMIT_S:
            raise _EnoughError


def forecast(
    kind: str, project: Path, options: object, *, is_cancelled: Callable[[], bool] = lambda: False
) -> Forecast:
    """Do the first chunks of the work here, in at most about half a minute, and reckon the rest.

    The chunks are kept: the run that follows goes on from them. Work that ends within the dry run is done for good.
    Raises what the job raises. Memory is measured in this process, so a fresh one tells it best.
    """
    found = find_kind(kind)
    project = project.resolve()
    watch = _Watch(audit_dir(project))
    free_memory = free_memory_bytes()
    reset_peak()
    with contextlib.suppress(_EnoughError):
        execute(
            found,
            project,
            options,
            binding=found.binding(project, options),
            on_report=watch.take,
            on_log=lambda _text: None,
            is_cancelled=is_cancelled,
            threads=available_threads(),
            lock_timeout_s=0,
        )
    return reckon(watch.seen, watch.total, peak_bytes(), shutil.disk_usage(project).free, free_memory)


def free_memory_bytes() -> int:
    """Return the memory that work in this process may take, what the process has already included."""
    return available_bytes() + int(psutil.Process().memory_info().rss)


def reckon(seen: list[tuple[float, float, int]], total: float, peak: int, free_disk: int, free_memory: int) -> Forecast:
    """Return the forecast for the work that is left after reports ``seen`` of (seconds, done, bytes on disk).

    Time a unit is the median over the steps between reports, disk a unit their mean.
    """
    steps = [
        ((later[0] - earlier[0]) / (later[1] - earlier[1]), (later[2] - earlier[2]) / (later[1] - earlier[1]))
        for earlier, later in itertools.pairwise(seen)
    ]
    left = total - seen[-1][1] if seen else 0.0
    seconds = left * statistics.median(step[0] for step in steps) if steps else None
    disk = int(left * max(statistics.mean(step[1] for step in steps), 0.0)) if steps else 0
    return Forecast(seconds, peak, disk, free_disk, free_memory)


def in_words(seconds: float) -> str:
    """Return a duration as a person says it."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


def in_bytes(count: float) -> str:
    """Return an amount of memory as a person says it."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit in ("B", "KB", "MB") else f"{count:.1f} {unit}"
