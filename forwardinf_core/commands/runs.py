"""``runs``: the finished audits of a project."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from forwardinf_core.commands.output import AsJson, print_json, print_table


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("runs")(runs)


def runs(
    project: Annotated[str, typer.Argument(help="A folder or demo:NAME.")],
    kind: Annotated[str | None, typer.Option(help="Only runs of this kind.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show the finished runs of a project, newest first."""
    from forwardinf_core.commands.folder import project_folder
    from forwardinf_core.store.runs import list_runs

    found = list_runs(project_folder(project), kind)
    if as_json:
        names = ("id", "kind", "key", "created", "options", "summary", "folder")
        print_json([{name: getattr(run, name) for name in names} for run in found])
    elif found:
        rows = [(run.id, run.kind, datetime.fromtimestamp(run.created).strftime("%Y-%m-%d %H:%M")) for run in found]
        print_table(("id", "kind", "made"), rows)
    else:
        typer.echo("No finished runs.")
