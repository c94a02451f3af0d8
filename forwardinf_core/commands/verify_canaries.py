"""``verify PROJECT canaries``: are planted copies and planted wrong labels found, and do the controls hold?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer

from forwardinf_core.commands.output import AsJson, print_json, print_table
from forwardinf_core.commands.progress import progress_line
from forwardinf_core.errors import DataError

if TYPE_CHECKING:
    from forwardinf_core.verification.canaries import Scope
    from forwardinf_core.verification.checks import Check

SCOPES = ("head", "model")


def register(group: typer.Typer) -> None:
    """Add the command of this file."""
    group.command("canaries")(canaries)


def canaries(
    context: typer.Context,
    scope: Annotated[
        str, typer.Option(help="What is trained on the copy: head, or model (the whole network).")
    ] = "head",
    method: Annotated[str, typer.Option(help="How they are looked for; else head, or tail for the model.")] = "",
    seed: Annotated[int, typer.Option(help="Draws what is planted.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Plant copies of test rows and wrong labels in a copy of the training rows, train on it, and look for them."""
    from forwardinf_core.audits.opening import open_audit
    from forwardinf_core.jobs.run import run_here
    from forwardinf_core.verification.canaries import KIND, canary_options, stored_canaries

    if scope not in SCOPES:
        raise DataError(f"There is nothing called ‘{scope}’ to train.", hint="scope is head or model.")
    with progress_line(quiet=as_json) as report:
        audit = open_audit(str(context.obj), report=report)
        options = canary_options(audit, cast("Scope", scope), seed=seed, method=method)
        found = stored_canaries(audit, options)
        if found is None:
            run_here(KIND, audit.folder, options, lambda done, total, note: report(done / total if total else 0, note))
            found = stored_canaries(audit, options)
    assert found is not None
    planted = [check for check in found if check.recall is not None]
    controls = [check for check in found if check.recall is None]
    if as_json:
        print_json(
            {
                "scope": options.scope,
                "method": options.method,
                "seed": options.seed,
                "canaries": [{"canary": check.name, **check.record()} for check in planted],
                "controls": [{"control": check.name, **check.record()} for check in controls],
            }
        )
        return
    print_checks(planted)
    typer.echo("")
    print_checks(controls)


def print_checks(found: list[Check]) -> None:
    """Print checks for a person: a table, then what each means."""
    print_table(("check", "verdict", "figure"), [(check.title, check.verdict, check.shown) for check in found])
    for check in found:
        typer.echo(f"\n{check.title}: {check.meaning}\n  {check.rule}")
