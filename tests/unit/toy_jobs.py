"""Jobs that misbehave in one way each, for the tests of the worker; the worker imports this file by its name."""

from __future__ import annotations

import errno
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from forwardinf_core.jobs.context import JobContext
from forwardinf_core.jobs.registry import job
from forwardinf_core.models.load import load_model
from forwardinf_core.models.source import ModelSource
from forwardinf_core.projects.places import ALLOW_CODE, is_set
from forwardinf_core.store.binding import Option


@dataclass(frozen=True)
class ToyOptions:
    """``flag`` is a file in the project whose presence (or absence) ends the misbehaviour."""

    flag: str = "flag"
    names: tuple[str, ...] = ("x", "y")
    weight: float = 0.1


@job("toy-stubborn")
def stubborn(context: JobContext, options: ToyOptions) -> dict[str, Option]:
    """Never look whether anyone asked to stop."""
    context.chunks.put("first", {"x": torch.ones(1)})
    context.report(1, 2, "stuck")
    while not (context.project / options.flag).exists():
        time.sleep(0.01)
    return {}


@job("toy-full")
def full(context: JobContext, options: ToyOptions) -> dict[str, Option]:
    """Find the disk full until the flag is there."""
    context.chunks.put("first", {"x": torch.ones(1)})
    context.report(1, 2, "writing")
    if not (context.project / options.flag).exists():
        raise OSError(errno.ENOSPC, "No space left on device")
    return {"kept": len(context.chunks.keys())}


@job("toy-memory")
def short_of_memory(context: JobContext, options: ToyOptions) -> dict[str, Option]:
    """Have room for batches of 16 rows only."""

    def compute(size: int) -> int:
        if size > 16:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.")
        return size

    return {"sizes": [context.halve_on_out_of_memory(compute, 100) for _ in range(2)]}


@job("toy-dies")
def dies(context: JobContext, options: ToyOptions) -> dict[str, Option]:
    """Be killed at once, every time."""
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


@job("toy-fault")
def fault(context: JobContext, options: ToyOptions) -> dict[str, Option]:
    """Fail by a fault of the program."""
    return {"never": 1 // 0}


@job("toy-code")
def code(context: JobContext, options: ToyOptions) -> dict[str, Option]:
    """Open a model that is code."""
    source = ModelSource(kind="adapter", path="net.py", classes=options.names, mean=(0.0,) * 3, std=(1.0,) * 3, size=1)
    return {"classes": list(load_model(source, root=context.project, allow_code=is_set(ALLOW_CODE)).classes)}


def content_of(project: Path, options: ToyOptions) -> dict[str, str]:
    """Return what the changing job reads."""
    return {"rows": (project / options.flag).read_text()}


@job("toy-changing", version=3, fingerprints=content_of)
def changing(context: JobContext, options: ToyOptions) -> dict[str, Option]:
    """Change its own project before it ends, where the project says so."""
    if (context.project / options.flag).read_text() == "change me":
        (context.project / options.flag).write_text("changed")
    return {"names": list(options.names), "weight": options.weight}
