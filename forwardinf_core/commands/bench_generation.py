"""``bench generation``: does tracing of generated pictures find what made them, and what does it cost?"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from forwardinf_core.commands.output import AsJson, print_json
from forwardinf_core.commands.progress import progress_line

if TYPE_CHECKING:
    from forwardinf_core.audits.generation.methods import Method
    from forwardinf_core.benchmarks.generation_sets import PictureSet

PARTS = ("self", "planted", "removal", "cost", "halves")
Half = Literal["report", "choose"]


@dataclass(frozen=True)
class _Asked:
    """What is measured, and how much of it."""

    half: Half
    methods: dict[str, Method]
    queries: int | None
    share: float
    seeds: int
    halves: int
    workers: int


def generation(
    part: Annotated[list[str] | None, typer.Option(help=f"{', '.join(PARTS)}; self and cost without it.")] = None,
    only: Annotated[list[str] | None, typer.Option("--set", help="digits or fashion; digits without it.")] = None,
    data: Annotated[Path | None, typer.Option(help="fashion: the folder of its train and test.parquet.")] = None,
    work: Annotated[Path, typer.Option(help="Models, caches, scores; gone on with.")] = Path("bench-generation"),
    recipe: Annotated[
        Literal["small", "painter"], typer.Option(help="A UNet that trains in seconds, or the demo's.")
    ] = "small",
    half: Annotated[Half, typer.Option(help="Pictures to report on, or others to choose options on.")] = "report",
    method: Annotated[list[str] | None, typer.Option(help="NAME or NAME:OPTION=VALUE,…; every method without.")] = None,
    queries: Annotated[int | None, typer.Option(min=1, help="Self: 100 rows; planted: 12 models; else 10.")] = None,
    share: Annotated[float, typer.Option(min=0.001, max=0.9, help="Removal: share of the rows left out.")] = 0.05,
    seeds: Annotated[int, typer.Option(min=1, help="Removal: trainings without each set of rows.")] = 3,
    halves: Annotated[int, typer.Option(min=10, help="Halves: networks on random halves.")] = 64,
    workers: Annotated[int, typer.Option(min=1, help="Processes that retrain, one thread each.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Write all records here as JSON, after every part.")] = None,
    as_json: AsJson = False,
) -> None:
    """Self-retrieval, planted exemplars, removal with retraining, cost; halves: to choose options on."""
    from forwardinf_core.benchmarks.generation_scores import methods_asked
    from forwardinf_core.benchmarks.generation_sets import SIZES, open_set
    from forwardinf_core.errors import DataError

    asked = _Asked(half, methods_asked(method), queries, share, seeds, halves, workers)
    unknown = [one for one in part or () if one not in PARTS]
    if unknown:
        raise DataError(f"There is no part ‘{unknown[0]}’.", hint=f"Parts: {', '.join(PARTS)}.")
    records: list[dict[str, object]] = []
    for name in only or ["digits"]:
        known = next((one for one in SIZES if one == name), None)
        if known is None:
            raise DataError(f"There is no set ‘{name}’.", hint=f"Sets: {', '.join(SIZES)}.")
        with progress_line(quiet=as_json) as report:
            chosen = open_set(known, recipe, work, data)
            for wanted in part or ("self", "cost"):
                about = {"part": wanted, "set": name, "recipe": chosen.recipe.words, "half": half}
                records += [about | one for one in _measured(wanted, chosen, asked, report)]
                if out is not None:
                    out.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    if as_json:
        print_json(records)
        return
    for one in records:
        typer.echo(_line(one))


def _measured(
    part: str, chosen: PictureSet, asked: _Asked, report: Callable[[float, str], None]
) -> list[dict[str, object]]:
    """Return the records of one part on one set."""
    from forwardinf_core.benchmarks import (
        generation_cost,
        generation_halves,
        generation_planted,
        generation_removal,
        generation_self,
    )
    from forwardinf_core.benchmarks.generation_retraining import Pictures

    methods, half, count = asked.methods, asked.half, asked.queries
    if part == "self":
        return [asdict(one) for one in generation_self.measure_self(chosen, half, count or 100, methods, report)]
    if part == "planted":
        return [asdict(one) for one in generation_planted.measure_planted(chosen, half, count or 12, methods, report)]
    if part == "cost":
        return [asdict(one) for one in generation_cost.measure_cost(chosen, methods)]
    pictures = Pictures(chosen)
    numbers = pictures.half(half, count or 10)
    if part == "halves":
        by_halves = generation_halves.measure_halves(
            pictures, numbers, methods, halves=asked.halves, workers=asked.workers, report=report
        )
        return [asdict(one) for one in by_halves]
    removed = generation_removal.measure_removal(
        pictures, numbers, methods, share=asked.share, seeds=asked.seeds, workers=asked.workers, report=report
    )
    return [asdict(one) for one in removed]


def _line(record: dict[str, object]) -> str:
    """Return a record in one line of text, without what only a program reads."""
    left_out = ("options", "recipe", "ranks", "by_query")
    return "  ".join(f"{name} {_text(value)}" for name, value in record.items() if name not in left_out)


def _text(value: object) -> str:
    if isinstance(value, dict) and set(value) == {"mean", "low", "high"}:
        return f"{value['mean']:.4g} ({value['low']:.4g} to {value['high']:.4g})"
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_text(one)}" for name, one in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
