"""``export``, ``decisions`` and ``apply``: take a review home, read it, and replay it on a fresh copy."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from forwardinf_core.commands.output import AsJson, print_json, print_table

if TYPE_CHECKING:
    from forwardinf_core.reports.exports.changes import Changes, Difference
    from forwardinf_core.store.decisions import Decision

Project = Annotated[str, typer.Argument(help="A folder or demo:NAME.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the difference; write nothing.")]
LINES_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("export")(export)
    app.command("decisions")(decisions)
    app.command("apply")(apply)


def export(
    project: Project,
    form: Annotated[
        str | None,
        typer.Option("--format", help="csv, jsonl, parquet, datasets, folder, cleanlab or patch; else as it came in."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="File or folder to write; it must not exist.")] = None,
    reviewer: Annotated[str | None, typer.Option(help="This person's decisions alone.")] = None,
    copy: Annotated[bool, typer.Option("--copy", help="Copy image files instead of linking them.")] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Write the training rows with the decisions applied. Only decided rows change."""
    from forwardinf_core.audits.opening import load_audit
    from forwardinf_core.projects.language import language_task_of
    from forwardinf_core.reports.exports import exporting

    if language_task_of(project) is not None:
        _export_corpus(project, form, out, reviewer, copy=copy, dry_run=dry_run, as_json=as_json)
        return
    audit = load_audit(project)
    kind = exporting.own_format(audit) if form is None else exporting.format_named(form)
    changes = exporting.changes_for(audit, reviewer)
    target = None
    if not dry_run:
        target = exporting.export(audit, kind, out or exporting.suggested_target(audit, kind), changes, copy=copy)
    _report(audit.train, audit.classes, changes, target, as_json=as_json)


def _export_corpus(
    project: str,
    form: str | None,
    out: Path | None,
    reviewer: str | None,
    *,
    copy: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Write a language model's training texts without those dropped on tracing's pages."""
    from forwardinf_core.audits.tracing.opening import load_tracing
    from forwardinf_core.errors import DataError
    from forwardinf_core.reports.exports import corpus

    audit = load_tracing(project)
    own = audit.project.config.train.kind
    if form not in (None, own):
        raise DataError(
            f"The texts of a language model are exported as they came in, as {own}.", hint="Leave --format out."
        )
    changes = corpus.changes_for(audit, reviewer)
    target = None
    if not dry_run:
        target = corpus.export_corpus(audit, out or corpus.suggested_target(audit), changes, copy=copy)
    _report(corpus.CorpusRows(audit), (), changes, target, as_json=as_json)


def decisions(
    project: Project,
    audit: Annotated[str, typer.Option(help="mislabels, leakage or tracing.")] = "mislabels",
    out: Annotated[Path | None, typer.Option("--out", help="Write a patch for apply.")] = None,
    reviewer: Annotated[str | None, typer.Option(help="This person's decisions alone.")] = None,
    history: Annotated[bool, typer.Option("--history", help="Every record, also undone ones.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what was decided on each row, or every record; or write a patch that apply replays."""
    from forwardinf_core.audits.decisions import current, ledger_of
    from forwardinf_core.audits.decisions import history as records_of
    from forwardinf_core.commands.folder import project_folder

    folder = project_folder(project)
    if out is not None:
        from forwardinf_core.audits.opening import load_audit
        from forwardinf_core.reports.exports import exporting

        opened = load_audit(project)
        changes = exporting.changes_for(opened, reviewer)
        target = exporting.export(opened, "patch", out, changes)
        _report(opened.train, opened.classes, changes, target, as_json=as_json)
        return
    found = records_of(folder, audit) if history else list(current(folder, audit, reviewer).values())
    disputed = [row for _, row in ledger_of(folder, audit).disagreements()] if reviewer is None else []
    if as_json:
        print_json({"decisions": [asdict(one) for one in found], "disagreements": disputed})
    elif found or disputed:
        print_table(("row", "decision", "label", "reviewer", "when", "comment"), [_line(one) for one in found])
        if disputed:
            typer.echo(f"Reviewers disagree on {len(disputed)} rows: {', '.join(disputed[:LINES_SHOWN])}")
    else:
        typer.echo("No decisions.")


def apply(
    project: Project,
    patch: Annotated[Path, typer.Argument(help="A patch that decisions --out wrote.")],
    out: Annotated[Path | None, typer.Option("--out", help="Write here instead of changing the project.")] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Replay a patch on the project's training rows; the rows of before are kept in .audit/before."""
    from forwardinf_core.audits.opening import load_audit
    from forwardinf_core.reports.exports import exporting
    from forwardinf_core.reports.exports.patch import changes_of_patch, read_patch

    verdicts = read_patch(patch)
    audit = load_audit(project)
    changes = changes_of_patch(audit, verdicts)
    target = kept = None
    if not dry_run and out is not None:
        target = exporting.export(audit, exporting.own_format(audit), out, changes, copy=True)
    elif not dry_run and changes:
        target, kept = audit.project.root / audit.project.config.train.path, exporting.apply_in_place(audit, changes)
    _report(audit.train, audit.classes, changes, target, kept=kept, as_json=as_json)


def _report(
    rows: object,
    classes: tuple[str, ...],
    changes: Changes,
    target: Path | None,
    *,
    kept: Path | None = None,
    as_json: bool,
) -> None:
    from typing import cast

    from forwardinf_core.reports.exports.changes import LabelledRows, difference

    found = difference(cast("LabelledRows", rows), changes, classes)
    if as_json:
        pairs = [{"label": own, "new_label": new, "rows": count} for own, new, count in found.pairs]
        lines = [{"id": row, "label": own, "new_label": new} for row, own, new in found.lines]
        print_json({**asdict(found), "pairs": pairs, "lines": lines, "out": target, "before": kept})
        return
    for line in told(found):
        typer.echo(line)
    if target is not None:
        typer.echo(f"Written: {target}" + (f"; the rows of before are in {kept}." if kept else "."))


def told(found: Difference) -> list[str]:
    """Return what a difference says, line by line."""
    lines = [f"{row}: {own} → {new}" for row, own, new in found.lines[:LINES_SHOWN]]
    if len(found.lines) > LINES_SHOWN:
        lines.append(f"… and {len(found.lines) - LINES_SHOWN} more rows")
    lines.append(
        f"{found.relabelled} relabelled, {found.dropped} dropped, {found.kept} kept, {found.unsure} unsure: "
        f"{found.rows_before} rows become {found.rows_after}."
    )
    if found.disputed:
        lines.append(f"{found.disputed} rows are left as they are: reviewers disagree on them.")
    if found.gone:
        lines.append(f"{found.gone} decisions are on rows that the training set no longer has.")
    return lines


def _line(one: Decision) -> tuple[str, ...]:
    when = datetime.fromtimestamp(one.at).strftime("%Y-%m-%d %H:%M")
    return (one.row_id, one.action, "" if one.label is None else str(one.label), one.reviewer, when, one.comment)
