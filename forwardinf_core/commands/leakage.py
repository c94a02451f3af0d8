"""``leakage``: which test rows are in the training set, as they are or in another form."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forwardinf_core.commands.attribute import resolve
from forwardinf_core.commands.output import AsJson, print_json, print_table
from forwardinf_core.commands.progress import progress_line

SHOWN = 20


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("leakage")(leakage)


def leakage(
    project: Annotated[str, typer.Argument(help="A folder or demo:NAME.")],
    query: Annotated[
        list[str] | None, typer.Option(help="test:ID, test:*, an image file or a text; every test row without it.")
    ] = None,
    scores: Annotated[Path | None, typer.Option(help="Write test_id, train_id, score, verdict to this file.")] = None,
    method: Annotated[
        str | None, typer.Option(help="Also rank by this attribution method, for the queries given.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the copies planted to learn from.")] = 0,
    allow_code: Annotated[bool, typer.Option("--allow-code", help="Let an adapter's Python file run.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show which test rows have a copy among the training rows, with reasons and a confidence."""
    from forwardinf_core.audits.leakage import report
    from forwardinf_core.audits.opening import open_audit

    if allow_code:
        from forwardinf_core.projects.places import allow_code_here

        allow_code_here()
    with progress_line(quiet=as_json) as tell:
        audit = open_audit(project, report=tell)
        found = report.run(audit, seed=seed, report=tell)
        pairs = report.pairs_of(audit, found, resolve(audit, query or ["test:*"]))
        ranks = report.ranks_by(audit, pairs, method, report=tell) if method and query else None
    if scores is not None:
        report.write_scores(audit, pairs, scores)
    record = report.record_of(audit, found, pairs, ranks)
    if as_json:
        print_json(record)
        return
    counts = found.counts()
    typer.echo(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    for note in found.notes:
        typer.echo(note)
    shown = sorted(pairs, key=lambda pair: -pair.score)[:SHOWN]
    print_table(
        ("query", "training row", "confidence", "verdict", "labels"),
        [(p.query, audit.train_ids[p.train], f"{p.score:.3f}", p.verdict, p.labels) for p in shown],
    )
