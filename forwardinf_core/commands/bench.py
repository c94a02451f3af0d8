"""``bench``: the measurements behind every figure in the documents, for anyone to repeat."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from forwardinf_core.commands import bench_compare, bench_leakage
from forwardinf_core.commands.bench_generation import generation
from forwardinf_core.commands.bench_tracing import tracing
from forwardinf_core.commands.output import AsJson, print_json, print_table
from forwardinf_core.commands.progress import progress_line

ENGINE_PARTS = ("pass", "head", "first", "tails", "cascade")


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    group = typer.Typer(help="Measure this machine; ratios within one run.", no_args_is_help=True)
    group.command("engine")(engine)
    group.command("memory")(memory)
    group.command("jobs")(jobs)
    group.command("kills")(kills)
    group.command("forecast")(forecast)
    group.command("tracing")(tracing)
    group.command("generation")(generation)
    bench_compare.register(group)
    bench_leakage.register_in(group)
    group.command("mislabels")(mislabels)
    app.add_typer(group, name="bench")


def engine(
    project: Annotated[str, typer.Argument(help="A folder or demo:NAME with a trained model.")] = "demo:digits",
    part: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(ENGINE_PARTS)}; all without it.")] = None,
    as_json: AsJson = False,
) -> None:
    """What the engine costs, in plain forward passes: full pass, head query, first answers, cascade."""
    from forwardinf_core.audits.opening import open_audit
    from forwardinf_core.benchmarks.engine import measure

    with progress_line(quiet=as_json) as report:
        audit = open_audit(project, report=report)
    figures = measure(audit, parts=part or ENGINE_PARTS)
    if as_json:
        print_json([asdict(figure) for figure in figures])
        return
    marks = {True: "met", False: "NOT met", None: ""}
    rows = [(f.name, f"{f.value:.3g} {f.unit}".strip(), f.target, marks[f.met], f.how) for f in figures]
    print_table(("figure", "measured", "target", "", "how"), rows)


def forecast(
    project: Annotated[str, typer.Argument(help="A folder or demo:NAME; works on a copy.")] = "demo:digits",
    as_json: AsJson = False,
) -> None:
    """What long work is said to cost, against what it does cost."""
    import tempfile

    from forwardinf_core.benchmarks.forecasts import compare
    from forwardinf_core.commands.folder import project_folder
    from forwardinf_core.jobs.forecast import in_bytes

    with tempfile.TemporaryDirectory() as folder:
        found = compare(project_folder(project).root, Path(folder))
    if as_json:
        print_json([asdict(one) for one in found])
        return
    rows = [
        (
            one.work,
            f"{one.said_s:.1f} / {one.took_s:.1f}",
            f"{in_bytes(one.said_memory_bytes)} / {in_bytes(one.peak_bytes)}",
            f"{in_bytes(one.said_disk_bytes)} / {in_bytes(one.grown_bytes)}",
        )
        for one in found
    ]
    print_table(("work", "seconds, said / took", "memory", "disk"), rows)


def memory(
    rows: Annotated[list[int] | None, typer.Option(help="Numbers of rows to compare.")] = None,
    method: Annotated[list[str] | None, typer.Option(help="Methods to measure.")] = None,
    paints: Annotated[bool, typer.Option("--diffusion", help="Tracing of pictures in place of classes.")] = False,
    as_json: AsJson = False,
) -> None:
    """Peak memory of scoring, for projects of different size."""
    from forwardinf_core.benchmarks.memory import BUDGET_MIB, peak_of

    methods = method or (["unlearn"] if paints else ["head", "full-sgd"])
    counts = rows or ([2_000, 10_000] if paints else [10_000, 50_000])
    found = [peak_of(count, name, paints=paints) for name in methods for count in counts]
    if as_json:
        print_json({"budget_mib": BUDGET_MIB, "peaks": [asdict(peak) for peak in found]})
        return
    lines = [(p.method, f"{p.n_rows:,}", f"{p.mib:.0f}", f"{p.own_mib:.0f}") for p in found]
    print_table(("method", "rows", "peak MiB", "without mapped caches"), lines)
    typer.echo(f"Budget: {BUDGET_MIB} MiB for the whole process, without mapped caches.")


def jobs(
    folder: Annotated[Path, typer.Argument(help="An empty folder to work in.")],
    kills: Annotated[int, typer.Option(min=1, help="Kills at random moments.")] = 20,
    seconds: Annotated[float, typer.Option(min=1, help="Length of the job whose overhead is measured.")] = 60.0,
    as_json: AsJson = False,
) -> None:
    """What the machinery of long work costs and survives: kills, overhead, cancel, first progress."""
    from forwardinf_core.jobs.measure import measure_all

    folder.mkdir(parents=True, exist_ok=True)
    found = measure_all(folder, kills=kills, seconds=seconds)
    print_json(found) if as_json else print_table(("figure", "measured"), [(k, str(v)) for k, v in found.items()])


def kills(
    folder: Annotated[Path, typer.Argument(help="An empty folder to work in.")],
    count: Annotated[int, typer.Option(min=3, help="Kills at random moments, over three kinds of work.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Kill a full pass, a curvature fit and a training at random moments: they must end in the same bytes."""
    from forwardinf_core.benchmarks.kills import measure_survival

    found = measure_survival(folder, kills=count)
    if as_json:
        print_json([asdict(one) for one in found])
    else:
        rows = [(one.work, str(one.kills), "bit-equal" if one.equal else "DIFFERENT", str(one.files)) for one in found]
        print_table(("work", "kills", "result", "files compared"), rows)


def mislabels(
    data: Annotated[Path, typer.Argument(help="The folder that holds cifar10n, mnist and the other sets.")],
    work: Annotated[Path, typer.Argument(help="A folder for projects and models; a second run goes on from it.")],
    problem: Annotated[
        list[str] | None, typer.Option("--set", help="A set by name; all reported ones without.")
    ] = None,
    trusted: Annotated[int, typer.Option(min=0, help="Trusted rows drawn from the test rows.")] = 500,
    draws: Annotated[int, typer.Option(min=1, help="Draws of them.")] = 6,
    seed: Annotated[int, typer.Option(help="Of the model and of every draw in the search.")] = 0,
    networks: Annotated[int, typer.Option(min=0, help="Networks trained without the suspects, averaged.")] = 0,
    retrained: Annotated[int, typer.Option(min=0, help="Folds that the network is retrained for.")] = 0,
    without_model: Annotated[bool, typer.Option("--without-model", help="Only the patches: no training.")] = False,
    as_json: AsJson = False,
) -> None:
    """How well every signal finds known wrong labels: CIFAR-10N, MNIST, Fashion-MNIST, TREC and IMDB."""
    from forwardinf_core.benchmarks.mislabels import measure, measure_patches
    from forwardinf_core.benchmarks.mislabels_sets import CHOSEN_ON, NAMES, make_problem

    chosen = problem or [name for name in NAMES if name not in CHOSEN_ON]
    lines, calibrations = [], []
    with progress_line(quiet=as_json) as report:
        for name in chosen:
            found = make_problem(name, data, work)
            if without_model and found.is_text:
                continue  # patches are of images
            if without_model:
                lines.append(measure_patches(found, seed=seed, report=report))
                continue
            measured, calibration = measure(
                found,
                trusted=trusted,
                draws=draws,
                seed=seed,
                networks=networks,
                retrained=retrained,
                report=report,
            )
            lines += measured
            calibrations.append(calibration)
    if as_json:
        print_json({"signals": [asdict(one) for one in lines], "calibration": [asdict(one) for one in calibrations]})
        return
    cells = [
        (one.problem, one.signal, *(f"{v:.3f}" for v in (one.auroc, one.average_precision, one.recall_in_first_tenth)))
        for one in lines
    ]
    print_table(("set", "signal", "AUROC", "AP", "first 10%"), cells)
    for one in calibrations:
        cuts = ", ".join(f"{k}: {one.expected_precision[k]:.2f}/{one.precision[k]:.2f}" for k in one.precision)
        typer.echo(
            f"{one.problem}: {one.n_wrong} wrong, {one.n_wrong_estimated:.0f} estimated; "
            f"precision expected/real in the first {cuts}; {one.seconds:.0f} s."
        )
