"""``verify PROJECT hypothesis``: does test-to-train influence say what train-to-test influence says?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from forwardinf_core.commands.output import AsJson, print_json, print_table
from forwardinf_core.commands.progress import progress_line

if TYPE_CHECKING:
    from forwardinf_core.verification.hypothesis_records import Hypothesis


def register(group: typer.Typer) -> None:
    """Add the command to ``verify``."""
    group.command("hypothesis")(hypothesis)


def hypothesis(
    context: typer.Context,
    part: Annotated[
        Literal["convex", "network"],
        typer.Option(help="convex: logistic regression, exact. network: the paper's network, minutes to an hour."),
    ] = "convex",
    rows: Annotated[int | None, typer.Option(min=20, help="Training rows; the paper's number without it.")] = None,
    each: Annotated[int, typer.Option(min=1, help="convex: queries of highest loss, and as many at random.")] = 10,
    share: Annotated[float, typer.Option(min=0.05, max=0.5, help="network: share of rows with wrong labels.")] = 0.5,
    seeds: Annotated[int, typer.Option(min=1, help="network: retrainings of each group.")] = 5,
    epochs: Annotated[int | None, typer.Option(min=1, help="network: epochs; the paper's without it.")] = None,
    seed: Annotated[int, typer.Option(help="Draws rows, queries and wrong labels.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Leave rows out and retrain, train on the query and look at the rows: the two influences must correlate."""
    from forwardinf_core.audits.opening import open_audit
    from forwardinf_core.projects.load import DEMO_PREFIX, open_project
    from forwardinf_core.verification.hypothesis import hypothesis_now
    from forwardinf_core.verification.hypothesis_records import HypothesisOptions

    options = HypothesisOptions(part, rows, each, share, seeds, epochs, seed)
    with progress_line(quiet=as_json) as report:
        is_demo = str(context.obj).startswith(DEMO_PREFIX)
        project = open_audit(context.obj, report=report).project if is_demo else open_project(context.obj)
        found = hypothesis_now(project, options, report)
    if as_json:
        print_json(record_of(found))
    else:
        _print(found)


def record_of(found: Hypothesis) -> dict[str, object]:
    """Return a verification as JSON holds it."""
    return {
        "run_id": found.run_id,
        "part": found.part,
        "pearson": found.pearson,
        "spearman": found.spearman,
        "low": found.interval[0],
        "high": found.interval[1],
        "n_rows": found.n_rows,
        "n_queries": found.n_queries,
        "by_kind": {name: {"pearson": a, "spearman": b} for name, (a, b) in found.by_kind.items()},
        "estimates": {name: {"pearson": a, "spearman": b} for name, (a, b) in found.estimates.items()},
        "repeatability": dict(zip(("train_to_test", "mirrored"), found.repeatability, strict=False)),
        "failed": list(found.failed),
        "options": found.options,
        "seconds": found.seconds,
    }


def _print(found: Hypothesis) -> None:
    from forwardinf_core.verification.network_estimates import words_of

    over = f"{found.n_rows:,} rows, mean of the {found.n_queries} queries of highest loss"
    if found.part == "network":
        over = f"{len(found.points)} groups of {found.n_rows:,} rows, {found.n_queries} queries together"
    typer.echo(
        f"Pearson {found.pearson:.4f} [{found.interval[0]:.4f}, {found.interval[1]:.4f}], "
        f"Spearman {found.spearman:.4f} ({over}; run {found.run_id})"
    )
    for name, (linear, ranked) in found.by_kind.items():
        typer.echo(f"  queries of {name}: Pearson {linear:.4f}, Spearman {ranked:.4f}")
    if found.repeatability:
        out, mirrored = found.repeatability
        typer.echo(f"  repeatable with other seeds: leaving out {out:.3f}, mirrored {mirrored:.3f}")
    for failure in found.failed:
        typer.echo(f"  left out, its training failed: {failure}")
    typer.echo("\nEstimates that need no retraining, against the same truth:")
    lines = sorted(found.estimates.items(), key=lambda item: -item[1][0])
    print_table(
        ("Pearson", "Spearman", "estimate"),
        [(f"{linear:.3f}", f"{ranked:.3f}", words_of(name)) for name, (linear, ranked) in lines],
    )
