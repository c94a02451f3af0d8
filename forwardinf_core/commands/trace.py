"""``trace``: which training texts made the language model say that?"""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from forwardinf_core.commands.output import AsJson, print_json, print_table
from forwardinf_core.commands.progress import progress_line
from forwardinf_core.errors import DataError

if TYPE_CHECKING:
    from forwardinf_core.audits.tracing.audit import TracingAudit
    from forwardinf_core.audits.tracing.records import Trace

SHOWN = 70  # characters of a text in the table


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("trace")(trace)


def trace(
    project: Annotated[str, typer.Argument(help="A folder or demo:NAME with a language model.")],
    prompt: Annotated[list[str], typer.Option(help="The beginning of a text; several are one set of queries.")],
    completion: Annotated[list[str] | None, typer.Option(help="What to explain; the model's own without it.")] = None,
    span: Annotated[str | None, typer.Option(help="Tokens asked about, such as 7-9,11; all of the completion.")] = None,
    method: Annotated[str | None, typer.Option(help="SCOPE-STEP, for example blocks-ekfac.")] = None,
    form: Annotated[str | None, typer.Option(help="How scores are read: raw, normalised or relative.")] = None,
    reduction: Annotated[
        str | None, typer.Option(help="Raw scores summed over tokens (sum) or per token (mean).")
    ] = None,
    direction: Annotated[str | None, typer.Option(help="ascent, descent or central.")] = None,
    rise: Annotated[
        float | None, typer.Option(help="How far the step moves the log-odds of a word asked about.")
    ] = None,
    damping: Annotated[float | None, typer.Option(help="How much the curvature is smoothed.")] = None,
    shortlist: Annotated[
        int | None, typer.Option(help="Texts that pass through the model; 0 = all, as in small corpora.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Texts shown at each end.")] = 10,
    by: Annotated[str | None, typer.Option(help="A column: sums of the scores of its groups too.")] = None,
    scores: Annotated[Path | None, typer.Option(help="Write id, score, bm25, embedding, overlap, fused here.")] = None,
    as_json: AsJson = False,
) -> None:
    """Which training texts moved the model towards a completion, and which away from it. Positive = helped."""
    from forwardinf_core.audits.tracing.methods import DEFAULT, trace_method
    from forwardinf_core.audits.tracing.opening import TraceOptions
    from forwardinf_core.commands.tracing_project import opened
    from forwardinf_core.jobs.run import run_here

    options: dict[str, object] = {
        "form": form,
        "reduction": reduction,
        "direction": direction,
        "rise": rise,
        "damping": damping,
    }
    options["shortlist"] = shortlist
    trace_method(method or DEFAULT, **options)  # a mistake is said before anything is opened
    with progress_line(quiet=as_json) as report:
        audit = opened(project, report)
        chosen = audit.method(method or "", **options)
        question = _question(audit, prompt, completion or [], span)
        found = audit.stored(question, chosen)
        if found is None:
            options_of = TraceOptions(question, chosen)
            result = run_here("trace", audit.folder, options_of, lambda done, total, note: report(done / total, note))
            found = audit.open_trace(str(result["run"]))
    record = record_of(audit, found, top)
    if by is not None:
        record["groups"] = [asdict(group) for group in audit.groups(found, by)]
    if scores is not None:
        write_scores(audit, found, scores)
    print_json(record) if as_json else print_record(record)


def record_of(audit: TracingAudit, found: Trace, top: int) -> dict[str, object]:
    """Return one trace as JSON holds it."""
    said = found.said
    ends = {"top": found.helped(top), "bottom": found.hurt(top)}
    record: dict[str, object] = {
        "run_id": found.run_id,
        "prompt": said.prompt,
        "completion": said.completion,
        "own_completion": said.own,
        "target": said.target_text,
        "tokens": [
            {"text": token.text, "probability": None if math.isnan(token.probability) else token.probability}
            for token in said.tokens
        ],
        "method": found.options["method"],
        "rise": found.rise,
        "seconds": found.seconds,
    }
    table = found.scores
    for end, places in ends.items():
        record[end] = [
            {
                "id": audit.ids[place],
                "text": audit.texts[place],
                "score": float(table.influence[place]),
                "raw": float(table.raw[place]),
                "bm25": float(table.bm25[place]),
                "embedding": float(table.embedding[place]),
                "overlap": int(table.overlap[place]),
                "known": audit.states(said, place),
            }
            for place in places.tolist()
        ]
    record["caveat"] = found.caveat
    record["fused"] = [audit.ids[place] for place in table.ranking("fused")[:top].tolist()]
    return record


def write_scores(audit: TracingAudit, found: Trace, path: Path) -> None:
    """Write a row for every training text: id, score, and one column for each comparison."""
    import pandas as pd

    table = found.scores
    columns = {"score": table.influence, "raw": table.raw, "bm25": table.bm25, "embedding": table.embedding}
    frame = pd.DataFrame({"id": list(audit.ids)} | columns | {"overlap": table.overlap, "fused": table.fused})
    try:
        frame.to_parquet(path, index=False)
    except OSError as error:
        raise DataError(f"The scores cannot be written to {path}.", hint=f"{error.strerror}.") from error


def print_record(record: dict[str, object]) -> None:
    """Print one trace for a person."""
    method = record["method"]
    assert isinstance(method, dict)
    own = "the model completes" if record["own_completion"] else "asked about"
    typer.echo(f"{record['prompt']!r}: {own} {record['completion']!r}, method {method['name']}, run {record['run_id']}")
    for end, word in (("top", "helped"), ("bottom", "hurt")):
        rows = record[end]
        assert isinstance(rows, list)
        if word == "hurt" and record["caveat"]:
            typer.echo(f"\n{record['caveat']}")
        typer.echo(f"\n{word}:" if rows else f"\nNo text {word}.")
        if rows:
            cells = [
                (
                    row["id"],
                    f"{row['score']:+.3g}",
                    f"{row['bm25']:.1f}",
                    f"{row['embedding']:.2f}",
                    str(row["overlap"]),
                    row["known"],
                    " ".join(row["text"].split())[:SHOWN],
                )
                for row in rows
            ]
            print_table(("id", "influence", "bm25", "embedding", "overlap", "known", "text"), cells)
    groups = record.get("groups")
    if isinstance(groups, list):
        typer.echo("\ngroups, by summed change of loss:")
        sums = [(g["name"], f"{g['influence']:+.3g}", str(g["n_texts"]), str(g["helped"])) for g in groups[:20]]
        print_table(("group", "influence", "texts", "helped"), sums)


def _question(audit: TracingAudit, prompts: list[str], completions: list[str], span: str | None):  # type: ignore[no-untyped-def]
    from forwardinf_core.audits.tracing.audit import Question

    if completions and len(completions) != len(prompts):
        raise DataError(
            f"There are {len(prompts)} prompts and {len(completions)} completions.",
            hint="Give a completion for each prompt, in the same order, or none at all.",
        )
    places = _span(span)
    said = [
        audit.say(prompt, completions[index] if completions else None, places if len(prompts) == 1 else ())
        for index, prompt in enumerate(prompts)
    ]
    if len(said) == 1:
        return audit.question(said[0])
    return Question(tuple(one.prompt for one in said), tuple(one.completion for one in said))


def _span(given: str | None) -> tuple[int, ...]:
    places: list[int] = []
    for part in (given or "").split(","):
        first, _, last = part.strip().partition("-")
        if not first:
            continue
        if not first.isdigit() or (last and not last.isdigit()):
            raise DataError(f"{given!r} names no tokens.", hint="Give numbers and ranges, such as 7-9,11.")
        places += range(int(first), int(last or first) + 1)
    return tuple(places)
