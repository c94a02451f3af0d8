"""``jobs`` and ``worker``: see, cancel and resume long work, and be the process that does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from forwardinf_core.commands.output import AsJson, print_json, print_table

if TYPE_CHECKING:
    from forwardinf_core.jobs.queue import JobStatus

JOB_MODULES = (
    "forwardinf_core.jobs.measure",
    "forwardinf_core.audits.fitting",
    "forwardinf_core.audits.leakage.detection",
    "forwardinf_core.audits.memorization.finding",
    "forwardinf_core.audits.mislabels.finding",
    "forwardinf_core.audits.opening",
    "forwardinf_core.audits.review_effect",
    "forwardinf_core.audits.generation.painting",
    "forwardinf_core.audits.generation.tracing",
    "forwardinf_core.audits.tracing.fitting",
    "forwardinf_core.audits.tracing.memorization",
    "forwardinf_core.audits.tracing.opening",
    "forwardinf_core.verification.canaries",
    "forwardinf_core.verification.controls",
    "forwardinf_core.verification.picture_removal",
    "forwardinf_core.verification.removal",
    "forwardinf_core.verification.fidelity",
    "forwardinf_core.verification.hypothesis",
)
"""What the worker imports: every module that registers jobs."""


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("jobs")(jobs)
    app.command("worker")(worker)


def jobs(
    project: Annotated[str | None, typer.Argument(help="A folder or demo:NAME; all jobs without it.")] = None,
    cancel: Annotated[int | None, typer.Option("--cancel", metavar="ID", help="Stop this job.")] = None,
    retry: Annotated[int | None, typer.Option("--retry", metavar="ID", help="Go on with this job.")] = None,
    log: Annotated[int | None, typer.Option("--log", metavar="ID", help="Print the last lines of its log.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show the long work of a project, or of this machine; cancel it, or go on with it."""
    from forwardinf_core.commands.folder import project_folder
    from forwardinf_core.jobs import run

    folder = None if project is None else project_folder(project).root
    if cancel is not None:
        run.cancel(cancel)
    if retry is not None:
        run.retry(retry)
    if log is not None:
        lines = run.status(log).log
        print_json(lines) if as_json else typer.echo("\n".join(lines))
        return
    found = run.list_jobs(folder)
    if as_json:
        print_json([_record(job) for job in found])
    elif found:
        print_table(("id", "kind", "state", "progress", "left", "started", "project"), [_line(job) for job in found])
        for job in found:
            if job.error:
                typer.echo(f"{job.id}: {job.error} {job.hint}".rstrip())
    else:
        typer.echo("No jobs.")


def worker(
    only: Annotated[list[str] | None, typer.Option("--jobs", metavar="MODULE", help="Know only its jobs.")] = None,
    allow_code: Annotated[bool, typer.Option("--allow-code", help="Let adapters' Python files run.")] = False,
    idle: Annotated[float, typer.Option(help="End after so many seconds without work.")] = 300.0,
) -> None:
    """Do the jobs that wait; the app starts this by itself. Only one works at a time on a machine."""
    from forwardinf_core.jobs.worker import serve
    from forwardinf_core.projects.places import allow_code_here

    if allow_code:
        allow_code_here()
    modules: Sequence[str] = only or JOB_MODULES
    if not serve(modules, idle_exit_s=idle):
        typer.echo("Another worker is at work on this machine; this one ends.")


def _record(job: JobStatus) -> dict[str, object]:
    return {**asdict(job), "project": str(job.project)}


def _line(job: JobStatus) -> Sequence[str]:
    from forwardinf_core.jobs.forecast import in_words

    share = f"{100 * job.done / job.total:.0f}% ({job.done:g}/{job.total:g})" if job.total else "–"
    left = "–" if job.seconds_left is None else in_words(job.seconds_left)
    started = "–" if job.started is None else datetime.fromtimestamp(job.started).astimezone().strftime("%m-%d %H:%M")
    return (str(job.id), job.kind, job.state, share, left, started, str(job.project))
