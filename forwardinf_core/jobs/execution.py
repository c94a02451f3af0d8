"""One way to execute a job, whoever asks: the worker's child, the command line, a test."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from forwardinf_core.errors import JobError
from forwardinf_core.jobs.context import JobContext, Report, project_gone
from forwardinf_core.jobs.registry import JobKind
from forwardinf_core.store.binding import Binding, Option
from forwardinf_core.store.chunks import ChunkStore
from forwardinf_core.store.files import make_folder, remove_leftovers
from forwardinf_core.store.locks import turn
from forwardinf_core.store.places import audit_dir

TURN_TIMEOUT_S = 30.0  # a killed worker's child ends within moments; longer means that someone else is at this work


def work_folder(project: Path, binding: Binding) -> Path:
    """Return where the chunks of this piece of work are kept while it is unfinished."""
    return audit_dir(project) / "work" / f"{binding.kind}-{binding.key()}"


def available_threads() -> int:
    """Return how many threads a job takes: OMP_NUM_THREADS where the person set it, else every core we may use.

    All cores, at low priority (the worker is nice and its idle threads sleep), keep the interface responsive and
    finish sooner than one core less; and the number is the same in the foreground, so the bits are.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def execute(
    kind: JobKind,
    project: Path,
    options: object,
    *,
    binding: Binding,
    on_report: Report,
    on_log: Callable[[str], None],
    is_cancelled: Callable[[], bool],
    threads: int,
    halvings: int = 0,
    lock_timeout_s: float = TURN_TIMEOUT_S,
) -> dict[str, Option]:
    """Run a job to its end and return its summary. Raises what the job raises.

    Holds the work's lock, so that one process at a time is at it. Raises JobError where the project is another than
    ``binding`` says, before the work and after it, and where the folder of the project has gone.
    """
    if not project.is_dir():
        raise project_gone(project)
    _check_unchanged(kind, project, options, binding)
    folder = work_folder(project, binding)
    make_folder(folder.parent)
    with turn(_lock_of(folder), lock_timeout_s) as ours:
        if not ours:
            raise JobError(
                f"Another process is already at this {kind.name} work.", hint="Wait for it (see `jobs`), or cancel it."
            )
        chunks = ChunkStore(folder, binding)
        remove_leftovers(folder)
        context = JobContext(project, chunks, binding.fingerprints, on_report, on_log, is_cancelled, halvings)
        with _threads(threads):
            result = json.loads(json.dumps(dict(kind.function(context, options))))
        if not project.is_dir():
            raise project_gone(project)
        _check_unchanged(kind, project, options, binding)
    assert isinstance(result, dict)
    return result


def remove_work(project: Path, binding: Binding) -> None:
    """Remove the chunks of finished work, unless another process is at it again."""
    folder = work_folder(project, binding)
    if not folder.is_dir():
        return
    with turn(_lock_of(folder), 0) as ours:
        if ours:
            ChunkStore(folder, binding).remove()
            _lock_of(folder).unlink(missing_ok=True)  # who waits for it sees that it has gone, and makes a new one


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let PyTorch use ``count`` threads, as the same job does wherever it runs."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check_unchanged(kind: JobKind, project: Path, options: object, binding: Binding) -> None:
    found: Mapping[str, str] = kind.binding(project, options).fingerprints
    changed = [name for name in {*found, *binding.fingerprints} if found.get(name) != binding.fingerprints.get(name)]
    if changed:
        raise JobError(
            f"The project {project.name} changed since this job was started ({', '.join(sorted(changed))}).",
            hint="Nothing of it was mixed; start the job again for the project as it is now.",
        )
