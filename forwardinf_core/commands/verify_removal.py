"""``verify PROJECT removal``: retrain without the rows that helped most; does the query suffer?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer

from forwardinf_core.commands.output import AsJson, print_json, print_table
from forwardinf_core.commands.progress import progress_line
from forwardinf_core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable

    from forwardinf_core.audits.audit import Audit
    from forwardinf_core.audits.generation.tracing import GenerationAudit
    from forwardinf_core.verification.picture_removal import PictureRemoval
    from forwardinf_core.verification.removal import Removal, RemovalOptions
    from forwardinf_core.verification.removal_ladder import Scope

SCOPES = ("head", "model")
WAY_WORDS = {
    "top": "without the images that helped most",
    "random": "without random images",
    "alike": "without random images of the same classes",
}


def register(group: typer.Typer) -> None:
    """Add the command of this file."""
    group.command("removal")(removal)


def removal(
    context: typer.Context,
    query: Annotated[
        list[str], typer.Option(help="test:ID, an image file, or image:KEY as generate names it; several times.")
    ],
    target: Annotated[str | None, typer.Option(help="Class asked about; else the label, or the prediction.")] = None,
    method: Annotated[
        str | None, typer.Option(help="Whose ranking is checked; else that of what is retrained.")
    ] = None,
    k: Annotated[int | None, typer.Option(min=1, help="Rows to remove; 2% of all without it.")] = None,
    scope: Annotated[
        str, typer.Option(help="What is retrained: head, or model (the whole built-in network).")
    ] = "head",
    seeds: Annotated[int | None, typer.Option(help="Retrainings of each kind: 10 of a head, 5 of a model.")] = None,
    as_json: AsJson = False,
) -> None:
    """Retrain without the most helpful rows, without random ones and without the most harmful; compare the query."""
    from forwardinf_core.audits.opening import open_audit, task_of
    from forwardinf_core.commands.attribute import class_code, resolve
    from forwardinf_core.verification.removal import removal_options

    if task_of(str(context.obj)) == "diffusion":
        check_pictures(str(context.obj), query, prompt=target, method=method, k=k, seeds=seeds, as_json=as_json)
        return
    if scope not in SCOPES:
        raise DataError(f"There is nothing called ‘{scope}’ to retrain.", hint="scope is head or model.")
    with progress_line(quiet=as_json) as report:
        audit = open_audit(str(context.obj), report=report)
        asked = class_code(audit, target)
        chosen = cast("Scope", scope)
        questions = [
            removal_options(audit, one, target=asked, method=method, k=k, scope=chosen, seeds=seeds)
            for one in resolve(audit, query)
        ]
        found = [checked(audit, question, report) for question in questions]
    records = [record_of(audit, one) for one in found]
    if as_json:
        print_json(records[0] if len(records) == 1 else {"queries": records})
        return
    for one, record in zip(found, records, strict=True):
        print_record(one, record)


def check_pictures(
    project: str,
    queries: list[str],
    *,
    prompt: str | None,
    method: str | None,
    k: int | None,
    seeds: int | None,
    as_json: bool,
) -> None:
    """Check the answers of pictures by training the diffusion model anew."""
    from forwardinf_core.audits.generation.methods import method_named
    from forwardinf_core.audits.generation.opening import open_generation_audit
    from forwardinf_core.commands.generation import picture_named
    from forwardinf_core.verification.picture_removal import checked as check
    from forwardinf_core.verification.picture_removal import options_of

    with progress_line(quiet=as_json) as report:
        audit = open_generation_audit(project, report=report)
        chosen = method_named(method)
        asked = [options_of(audit, picture_named(audit, one, prompt), chosen, k=k, seeds=seeds) for one in queries]
        found = [check(audit, question, report) for question in asked]
    records = [picture_record(audit, one) for one in found]
    if as_json:
        print_json(records[0] if len(records) == 1 else {"queries": records})
        return
    for record in records:
        typer.echo(f"{record['query']}, ranking {record['method']}, the whole model retrained")
        typer.echo(f"{record['verdict']}: difference from random images {record['difference']:+.3g}\n")
        ways = ("top", "random", "alike")
        rows = [(WAY_WORDS[way], f"{record[f'rise_{way}']:+.3g}", f"{record[f'apart_{way}']:.4f}") for way in ways]
        print_table(("retrained", "change of the loss", "painting apart from the picture"), rows)


def picture_record(audit: GenerationAudit, found: PictureRemoval) -> dict[str, object]:
    """Return a check as JSON holds it. Rises are means over the seeds; low and high are the interval of rise_top."""
    rises = {
        f"rise_{way}": float((found.losses[way] - found.losses["all"]).mean()) for way in ("top", "random", "alike")
    }
    return {
        "run_id": found.run_id,
        "query": found.options.query,
        "method": found.options.method.name,
        "scope": "model",
        "k": found.options.k,
        "seeds": len(found.losses["all"]),
        "failed": list(found.failed),
        "loss": float(found.losses["all"].mean()),
        **rises,
        "low": found.rise.low,
        "high": found.rise.high,
        "difference": found.more.mean,
        "difference_low": found.more.low,
        "difference_high": found.more.high,
        **{f"apart_{way}": float(values.mean()) for way, values in found.apart.items()},
        "verdict": found.verdict,
        "removed": [audit.train_ids[position] for position in found.top.tolist()],
    }


def checked(audit: Audit, options: RemovalOptions, report: Callable[[float, str], None]) -> Removal:
    """Return the check, read back or made here as the job it also is in the app."""
    from forwardinf_core.jobs.run import run_here
    from forwardinf_core.verification.removal import KIND, open_removal, stored_removal

    known = stored_removal(audit, options)
    if known is not None:
        return known
    result = run_here(
        KIND, audit.folder, options, lambda done, total, note: report(done / total if total else 0.0, note)
    )
    return open_removal(audit, str(result["run"]))


def record_of(audit: Audit, found: Removal) -> dict[str, object]:
    """Return a check as JSON holds it. Rises are means over the seeds; low and high are the interval of rise_top."""
    record: dict[str, object] = {
        "run_id": found.run_id,
        "query": found.query,
        "target": audit.classes[found.target],
        "method": found.method,
        "scope": found.scope,
        "k": found.k,
        "seeds": len(found.seeds),
        "failed": list(found.failed),
        "rise_top": found.rise.mean,
        "low": found.rise.low,
        "high": found.rise.high,
        "rise_random": found.changes["random"].mean,
        "rise_alike": found.changes["alike"].mean,
        "rise_lowest": found.changes["lowest"].mean,
        "difference": found.more.mean,
        "difference_low": found.more.low,
        "difference_high": found.more.high,
        "probability_before": found.before,
        "probability_after": found.after,
        "prediction_turned": found.changes["top"].turned,
        "verdict": found.verdict,
        "meaning": found.check.meaning,
        "removed": [audit.train_ids[position] for position in found.top.tolist()],
    }
    return record


def print_record(found: Removal, record: dict[str, object]) -> None:
    """Print a check for a person."""
    from forwardinf_core.verification.removal_ladder import KINDS, WORDS, Interval

    typer.echo(f"{found.query}, asked about {record['target']}, ranking {found.method}, {found.scope} retrained")
    typer.echo(f"{found.verdict}: {found.check.meaning}\n")
    rows = []
    for kind in KINDS:
        change = found.changes[kind]
        rise, chance = Interval.of(change.rise), Interval.of(change.chance)
        rows.append(
            (
                WORDS[kind],
                f"{rise.mean:+.3g} ({rise.low:+.3g} to {rise.high:+.3g})",
                f"{100 * chance.mean:+.1f}%",
                f"{100 * change.turned:.0f}%",
            )
        )
    print_table(("retrained", "change of the loss", "of the probability", "predictions turned"), rows)
    for name in found.failed:
        typer.echo(f"Failed and left out: {name}.")
