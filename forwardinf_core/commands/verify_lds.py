"""``verify PROJECT lds``: do the scores predict what retraining on half of the rows does?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from forwardinf_core.commands.output import AsJson, print_json, print_table
from forwardinf_core.commands.progress import progress_line

if TYPE_CHECKING:
    from forwardinf_core.verification.fidelity import Fidelity


def register(group: typer.Typer) -> None:
    """Add the command to ``verify``."""
    group.command("lds")(lds)


def lds(
    context: typer.Context,
    method: Annotated[str | None, typer.Option(help="Whose scores; the best the model has without it.")] = None,
    subsets: Annotated[int, typer.Option(min=10, help="Random halves of the training rows.")] = 100,
    seeds: Annotated[int, typer.Option(min=1, help="Networks for each half.")] = 2,
    queries: Annotated[int, typer.Option(min=1, help="Random test rows.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Retrain on random halves and compare with summed scores: the linear datamodelling score, 1 = perfect."""
    from forwardinf_core.audits.opening import open_audit
    from forwardinf_core.verification.fidelity import lds_now, lds_options

    with progress_line(quiet=as_json) as report:
        audit = open_audit(str(context.obj), report=report)
        options = lds_options(audit, method=method, subsets=subsets, seeds=seeds, queries=queries)
        found = lds_now(audit, options, report)
    if as_json:
        print_json(record_of(found))
    else:
        _print(found)


def record_of(found: Fidelity) -> dict[str, object]:
    """Return a score as JSON holds it."""
    return {
        "run_id": found.run_id,
        "method": found.method,
        "lds": found.lds,
        "low": found.low,
        "high": found.high,
        "ceiling": found.ceiling,
        "n_rows": found.n_rows,
        "n_queries": found.n_queries,
        "methods": {name: {"lds": a, "low": b, "high": c} for name, (a, b, c) in found.lines.items()},
        "left_out": list(found.left_out),
        "failed": list(found.failed),
        "options": found.options,
        "seconds": found.seconds,
    }


def _print(found: Fidelity) -> None:
    ceiling = "" if found.ceiling != found.ceiling else f"; noise ceiling {found.ceiling:.3f}"
    typer.echo(
        f"{found.method}: LDS {found.lds:.3f} [{found.low:.3f}, {found.high:.3f}]{ceiling} "
        f"({found.n_rows:,} rows, {found.n_queries} queries; run {found.run_id})"
    )
    lines = sorted(found.lines.items(), key=lambda item: -item[1][0])
    print_table(("method", "LDS", "95% interval"), [(n, f"{a:.3f}", f"{b:.3f} to {c:.3f}") for n, (a, b, c) in lines])
    for query in found.left_out:
        typer.echo(f"left out, all its scores are equal (its gradient is zero): {query}")
    for failure in found.failed:
        typer.echo(f"left out, its training failed: {failure}")
