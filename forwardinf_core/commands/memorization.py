"""``memorization``: which training rows the model knows only because it saw them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forwardinf_core.commands.output import AsJson, print_json, print_table
from forwardinf_core.commands.progress import progress_line


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("memorization")(memorization)


def memorization(
    project: Annotated[str, typer.Argument(help="A folder or demo:NAME.")],
    method: Annotated[
        str | None,
        typer.Option(help="head (seconds, the default) or tail; of a language model SCOPE-STEP, such as blocks-ekfac."),
    ] = None,
    reference: Annotated[
        int, typer.Option(min=0, help="Also retrain so many networks on random halves (200 is a good number).")
    ] = 0,
    top: Annotated[int, typer.Option(min=0, help="Rows shown.")] = 20,
    scores: Annotated[Path | None, typer.Option(help="Write id and score of every row to this parquet file.")] = None,
    allow_code: Annotated[bool, typer.Option("--allow-code", help="Let an adapter's Python file run.")] = False,
    as_json: AsJson = False,
) -> None:
    """Rank training rows by how much the model's answer on a row leans on that very row."""
    from forwardinf_core.audits.memorization import finding
    from forwardinf_core.audits.memorization.records import sentence_of
    from forwardinf_core.audits.opening import open_audit
    from forwardinf_core.commands.memorization_texts import of_language_model, score_texts

    if of_language_model(project):
        score_texts(project, method, reference=reference, top=top, scores=scores, as_json=as_json)
        return
    if allow_code:
        from forwardinf_core.projects.places import allow_code_here

        allow_code_here()
    options = finding.scope_named(method or "head")
    with progress_line(quiet=as_json) as report:
        audit = open_audit(project, report=report)
        if reference:
            finding.run_reference(audit, finding.ReferenceOptions(networks=reference), report)
        found = finding.run(audit, options, report)
    if scores is not None:
        finding.write_scores(found, scores)
    shown = [int(position) for position in found.ranked()[:top]]
    percentile = found.percentile
    records = [
        {
            "id": found.ids[position],
            "score": float(found.score[position]),
            "percentile": float(percentile[position]),
            "label": audit.classes[int(found.labels[position])],
            "probability_of_label": float(found.chance[position]),
            "sentence": sentence_of(found, position),
            **_retrained(found.reference, position),
        }
        for position in shown
    ]
    if as_json:
        print_json(
            {
                "run_id": found.run_id,
                "n_train": len(found.ids),
                "method": dict(found.options),
                "has_reference": found.reference is not None,
                "seconds": dict(found.seconds),
                "top": records,
            }
        )
        return
    cells = [(str(r["id"]), str(r["label"]), f"{r['percentile']:.1f}", str(r["sentence"])) for r in records]
    print_table(("id", "label", "percentile", "what is known"), cells)


def _retrained(reference: object, position: int) -> dict[str, float]:
    from forwardinf_core.audits.memorization.reference import Reference

    if not isinstance(reference, Reference):
        return {}
    return {
        "probability_with_row": float(reference.with_row[position]),
        "probability_without_row": float(reference.without_row[position]),
        "standard_error": float(reference.error[position]),
    }
