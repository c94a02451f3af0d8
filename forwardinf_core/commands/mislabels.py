"""``mislabels``: training rows by how suspicious their labels are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from forwardinf_core.commands.output import AsJson, print_json, print_table
from forwardinf_core.commands.progress import progress_line

if TYPE_CHECKING:
    from forwardinf_core.audits.audit import Audit
    from forwardinf_core.audits.mislabels.records import Suspects


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("mislabels")(mislabels)


def mislabels(
    project: Annotated[str, typer.Argument(help="A folder or demo:NAME.")],
    method: Annotated[str, typer.Option(help="default, or the name of a signal.")] = "default",
    top: Annotated[int, typer.Option(min=0, help="Suspects shown.")] = 20,
    scores: Annotated[Path | None, typer.Option(help="Write every row's score to this parquet file.")] = None,
    retrained: Annotated[int, typer.Option(min=0, max=20, help="Train the network anew for so many folds.")] = 0,
    networks: Annotated[int, typer.Option(min=0, max=20, help="Train so many networks without the suspects.")] = 0,
    seed: Annotated[int, typer.Option(help="Draws the folds and the planted errors.")] = 0,
    allow_code: Annotated[bool, typer.Option("--allow-code", help="Let an adapter's Python file run.")] = False,
    as_json: AsJson = False,
) -> None:
    """Rank the training rows by how likely their label is wrong, each with a suggested label and reasons."""
    from forwardinf_core.audits.mislabels.finding import FindOptions, suspects_now
    from forwardinf_core.audits.mislabels.requirements import check_request
    from forwardinf_core.audits.opening import open_audit

    if allow_code:
        from forwardinf_core.projects.places import allow_code_here

        allow_code_here()
    with progress_line(quiet=as_json) as report:
        audit = open_audit(project, report=report)
        check_request(audit, method, retrained=retrained, networks=networks)
        found = suspects_now(audit, FindOptions(seed=seed, retrained=retrained, networks=networks), report).by(method)
    if scores is not None:
        write_scores(audit, found, scores)
    if as_json:
        print_json(record_of(found, top))
    else:
        _print(found, top)


def write_scores(audit: Audit, found: Suspects, path: Path) -> None:
    """Write id, score, label and suggested_label of every training row, labels as the data writes them."""
    import pandas as pd

    from forwardinf_core.audits.mislabels.as_written import as_written
    from forwardinf_core.store.files import write_bytes

    columns = {
        "id": list(found.ids),
        "score": found.score,
        "label": as_written(audit, found.label),
        "suggested_label": as_written(audit, found.suggested),
    }
    write_bytes(path, pd.DataFrame(columns).to_parquet(index=False))


def record_of(found: Suspects, top: int) -> dict[str, object]:
    """Return a search as JSON holds it."""
    return {
        "run_id": found.run_id,
        "method": found.method,
        "n_rows": len(found.ids),
        "n_wrong": found.n_wrong,
        "n_wrong_by_class": {
            name: float(count) for name, count in zip(found.classes, found.n_wrong_by_class, strict=True)
        },
        "signals": sorted(found.signals),
        "notes": list(found.notes),
        "suspects": [_row(found, rank, int(position)) for rank, position in enumerate(found.ranking[:top])],
    }


def _row(found: Suspects, rank: int, position: int) -> dict[str, object]:
    return {
        "id": found.ids[position],
        "score": float(found.score[position]),
        "label": found.classes[int(found.label[position])],
        "suggested_label": found.classes[int(found.suggested[position])],
        "wrong_chance": float(found.wrong_chance[position]),
        "expected_precision": float(found.expected_precision[rank]),
        "reasons": list(found.reasons(position)),
    }


def _print(found: Suspects, top: int) -> None:
    typer.echo(
        f"About {found.n_wrong:.0f} of {len(found.ids):,} labels look wrong "
        f"({100 * found.n_wrong / len(found.ids):.1f}%). Run {found.run_id}."
    )
    for note in found.notes:
        typer.echo(note)
    rows = [
        (
            found.ids[position],
            found.classes[int(found.label[position])],
            found.classes[int(found.suggested[position])],
            f"{100 * found.wrong_chance[position]:.0f}%",
            " ".join(found.reasons(int(position))),
        )
        for position in found.ranking[:top]
    ]
    print_table(("id", "label", "suggested", "chance", "why"), rows)
