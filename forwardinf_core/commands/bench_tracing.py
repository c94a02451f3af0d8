"""``bench tracing``: how well influence, BM25, embeddings and their fusion find what taught a language model."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from forwardinf_core.commands.output import AsJson, print_json
from forwardinf_core.commands.progress import progress_line

if TYPE_CHECKING:
    from forwardinf_core.audits.tracing.methods import TraceMethod
    from forwardinf_core.benchmarks.tracing_sets import FactSet

WHOLE_FOR_COST = 2_000_000  # tokens
PARTS = ("ranking", "falsehoods", "removal", "direct", "cost")


def tracing(
    part: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(PARTS)}; ranking without it.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the facts_* sets; FORWARDINF_TEST_DATA.")] = None,
    work: Annotated[Path, typer.Option(help="Where models are trained and kept.")] = Path("bench-tracing"),
    only: Annotated[
        list[str] | None,
        typer.Option("--set", help="Sets to measure, demo, or large (cost alone); all but large without it."),
    ] = None,
    queries: Annotated[int, typer.Option(min=1, help="Queries of a half.")] = 100,
    half: Annotated[str, typer.Option(help="develop (to choose defaults on) or report.")] = "report",
    method: Annotated[list[str] | None, typer.Option(help="SCOPE-STEP or SCOPE-STEP:FORM.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes of a training; what suits the corpus.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of a removal check.")] = 3,
    statements: Annotated[int, typer.Option(min=1, help="Removal: how many texts state a query's fact, or more.")] = 1,
    texts: Annotated[int, typer.Option(min=100, help="Texts of the set large, for --part cost.")] = 50_000,
    out: Annotated[Path | None, typer.Option(help="Write the figures here as JSON.")] = None,
    as_json: AsJson = False,
) -> None:
    """Rankings of training texts against known truth, planted falsehoods, removal, steps on texts, and cost."""
    from forwardinf_core.benchmarks import tracing_sets

    where = data or Path(os.environ.get("FORWARDINF_TEST_DATA", "data"))
    methods = _methods(method)
    figures: list[dict[str, object]] = []
    with progress_line(quiet=as_json) as report:
        for name in only or [*tracing_sets.SETS, "demo"]:
            if name == tracing_sets.LARGE:
                chosen = tracing_sets.large_set(where, work, n_texts=texts, report=report)
            elif name == "demo":
                chosen = tracing_sets.demo_set(_demo(report))
            else:
                chosen = tracing_sets.open_set(name, where, work, epochs=epochs, report=report)
            for wanted in part or ["ranking"]:
                figures += _figures(wanted, chosen, half, methods, _Sizes(queries, seeds, epochs, statements), report)
    if out is not None:
        out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    if as_json:
        print_json(figures)
        return
    for one in figures:
        typer.echo("  ".join(f"{name} {_shown(value)}" for name, value in one.items() if name != "by_query"))


def _shown(value: object) -> str:
    if isinstance(value, dict):  # an interval
        return f"{value['mean']:.3f} ({value['low']:.3f} to {value['high']:.3f})"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class _Sizes:
    queries: int
    seeds: int
    epochs: int | None
    statements: int


def _figures(
    part: str,
    chosen: FactSet,
    half: str,
    methods: list[TraceMethod],
    sizes: _Sizes,
    report: Callable[[float, str], None],
) -> list[dict[str, object]]:
    """Return the figures of one part on one set."""
    from forwardinf_core.benchmarks import tracing_cost, tracing_direct, tracing_ranking, tracing_removal, tracing_sets

    asked = [chosen.audit.method(one.name, form=one.form) for one in methods]  # with a shortlist as the app takes it
    if part == "ranking":
        found = tracing_ranking.measure(chosen, half, n_queries=sizes.queries, methods=asked, report=report)
        return [{"part": part, **asdict(one)} for one in found]
    if part == "falsehoods" and chosen.name == tracing_sets.DEMO:
        false = tracing_sets.false_queries(chosen.audit.folder)
        found = tracing_ranking.measure(chosen, part, n_queries=sizes.queries, methods=asked, only=false, report=report)
        return [{"part": part, **asdict(one)} for one in found]
    if part == "removal":
        known = tracing_removal.known_queries(chosen, half, sizes.queries, statements=sizes.statements)
        removed = tracing_removal.measure_removal(
            chosen, known, asked, seeds=range(sizes.seeds), epochs=sizes.epochs, report=report
        )
        return [{"part": part, "data": chosen.name, **asdict(one)} for one in removed]
    if part == "direct":
        some = chosen.half(half)[: sizes.queries]
        checked = [one for method in asked for one in tracing_direct.measure_direct(chosen, some, method, report)]
        return [{"part": part, "data": chosen.name, **asdict(one)} for one in checked]
    if part == "cost":
        query = chosen.report[0]
        if chosen.audit.n_tokens <= WHOLE_FOR_COST:  # else all texts take minutes a query
            asked += [one for one in methods if one not in asked]
        costs = tracing_cost.measure_cost(chosen.audit, query.prompt, query.answer, asked)
        return [{"part": part, "data": chosen.name, **asdict(one), "passes": one.passes} for one in costs]
    return []


def _demo(report: Callable[[float, str], None]) -> Path:
    from forwardinf_core.audits.opening import ensure_demo
    from forwardinf_core.jobs.run import run_here

    return ensure_demo("facts", run_here, report)


def _methods(names: list[str] | None) -> list[TraceMethod]:
    from forwardinf_core.audits.tracing.methods import DEFAULT, trace_method

    chosen = []
    for given in names or [DEFAULT]:
        name, _, form = given.partition(":")
        chosen.append(trace_method(name, form=form or None))
    return chosen
