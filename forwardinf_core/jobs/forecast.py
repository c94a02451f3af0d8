"""What long work will cost, in time, memory and disk, and in words; said before it begins."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil

from forwardinf_core.jobs.memory import available_bytes

WORTH_SAYING = 1_000_000  # bytes of disk
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
        disk = f", {in_bytes(self.disk_bytes)} of disk" if self.disk_bytes >= WORTH_SAYING else ""
        return f"{duration}, {in_bytes(self.peak_bytes)} of memory{disk}"

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


def judged(folder: Path, seconds: float, peak: int, disk: int) -> Forecast:
    """Return a cost held against what is free on this machine and on the disk that holds ``folder``."""
    return Forecast(seconds, peak, disk, shutil.disk_usage(folder).free, free_memory_bytes())


def free_memory_bytes() -> int:
    """Return the memory that work in this process may take, what the process has already included."""
    return available_bytes() + int(psutil.Process().memory_info().rss)


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
