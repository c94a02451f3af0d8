"""How much memory this process took at most, how much there is, and whether the system killed a process for it."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import psutil


def peak_bytes() -> int:
    """Return the largest resident memory of this process since its start, or since ``reset_peak``."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        found = None
    if found:
        return int(found[1]) * 1024
    if os.name == "posix":
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return int(psutil.Process().memory_info().peak_wset)


def reset_peak() -> None:
    """Let ``peak_bytes`` count from now on, where the system can (Linux); else it counts from the start."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def available_bytes() -> int:
    """Return the memory that can be had without swapping, within the limit of this process's container."""
    available = int(psutil.virtual_memory().available)
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
    except (OSError, ValueError):  # no container, or one without a limit
        return available
    return min(available, max(limit - used, 0))


def memory_kills() -> int:
    """Return how many processes this system has killed for want of memory; 0 where it does not tell."""
    total = 0
    for path in ("/proc/vmstat", "/sys/fs/cgroup/memory.events"):
        try:
            found = re.search(r"^oom_kill (\d+)", Path(path).read_text(), re.MULTILINE)
        except OSError:
            continue
        total += int(found[1]) if found else 0
    return total
