"""``bench compare`` and ``bench lds``: our methods against baselines and libraries, and against each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from forwardinf_core.commands.output import AsJson, print_json
from forwardinf_core.commands.progress import progress_line
from forwardinf_core.errors import DataError

DOCUMENT = Path("docs/comparison.md")


def register(group: typer.Typer) -> None:
    """Add the commands to ``bench``."""
    group.command("compare")(compare)
    group.command("lds")(lds)


def compare(
    project: Annotated[str, typer.Argument(help="A folder or demo:NAME whose model fit has trained.")] = "demo:digits",
    only: Annotated[list[str] | None, typer.Option(help="Contenders whose name begins so; all without it.")] = None,
    models: Annotated[int, typer.Option(min=1, help="Models, each scored alone and averaged.")] = 3,
    subsets: Annotated[int, typer.Option(min=10, help="Random halves that are retrained.")] = 100,
    seeds: Annotated[int, typer.Option(min=1, help="Networks for each half.")] = 1,
    queries: Annotated[int, typer.Option(min=2, help="Random test rows.")] = 50,
    threads: Annotated[int, typer.Option(min=1, help="Cores of every contender.")] = 1,
    limit: Annotated[float, typer.Option(min=1, help="Minutes that a contender may take.")] = 20.0,
    pairs: Annotated[Path | None, typer.Option(help="CSV of known copies: test_id, train_id.")] = None,
    out: Annotated[Path, typer.Option(help="The document, whose section of this project is written anew.")] = DOCUMENT,
    as_json: AsJson = False,
) -> None:
    """Measure fidelity, time, memory and detection on one project, and write docs/comparison.md."""
    from forwardinf_core.audits.opening import open_audit
    from forwardinf_core.benchmarks.compare.document import markdown
    from forwardinf_core.benchmarks.compare.measure import CONTENDERS
    from forwardinf_core.benchmarks.compare.run import as_record, compare_project, write_document

    names = [name for name in CONTENDERS if only is None or any(name.startswith(one) for one in only)]
    if not names:
        raise DataError(f"No contender is called {', '.join(only or [])}.", hint=f"There are: {', '.join(CONTENDERS)}.")
    shown = project if project.startswith("demo:") else Path(project).name
    command = f"python -m forwardinf_core bench compare {shown} --models {models} --subsets {subsets} --seeds {seeds}"
    command += f" --queries {queries} --threads {threads}" + (f" --pairs {pairs}" if pairs else "")
    with progress_line(quiet=as_json) as report:
        found = compare_project(
            open_audit(project, report=report),
            command=command,
            names=names,
            models=models,
            subsets=subsets,
            seeds=seeds,
            queries=queries,
            threads=threads,
            limit_s=60 * limit,
            pairs=pairs,
            report=report,
        )
    write_document(found, out)
    print_json(as_record(found)) if as_json else typer.echo("\n".join(markdown(found)))


def lds(
    problem: Annotated[
        Literal["digits", "digits-noisy", "cifar10n", "cifar10n-noisy"],
        typer.Argument(help="Which set; noisy: with wrong labels among the training rows."),
    ],
    folder: Annotated[Path, typer.Argument(help="Where networks and scores are kept, and gone on with.")],
    data: Annotated[Path | None, typer.Option(help="cifar10n: folder of its train and test.parquet.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that retrain.")] = 1,
    models: Annotated[int, typer.Option(min=1, max=5, help="Models, each scored alone and averaged.")] = 5,
    only: Annotated[list[str] | None, typer.Option(help="Methods whose name begins so; all without it.")] = None,
    every_damping: Annotated[bool, typer.Option(help="A line for every damping, not for the chosen one.")] = False,
) -> None:
    """Repeat the table of docs/method.md: every step and scope, single models and their mean."""
    from forwardinf_core.benchmarks import lds_truth
    from forwardinf_core.benchmarks.lds_table import cascades, grid, make_scores, markdown
    from forwardinf_core.benchmarks.lds_table import compare as lines_of
    from forwardinf_core.benchmarks.lds_truth import make_truth, reference_models

    is_noisy = problem.endswith("-noisy")
    if problem.startswith("digits"):
        chosen = lds_truth.digits_noisy() if is_noisy else lds_truth.digits()
    elif data is None:
        raise DataError("The rows of cifar10n are not known.", hint="Give the folder of its parquet files as --data.")
    else:
        chosen = lds_truth.cifar10n_noisy(data) if is_noisy else lds_truth.cifar10n(data)
    folder.mkdir(parents=True, exist_ok=True)
    with progress_line() as report:
        truth = make_truth(chosen, folder, workers=workers, report=report)
        trained = reference_models(chosen, folder, count=models, report=report)
        methods = [method for method in grid() if only is None or any(method.family.startswith(one) for one in only)]
        scores = make_scores(chosen, trained, methods, folder, report=report)
    lines = lines_of(chosen, truth, scores | cascades(scores), every_damping=every_damping)
    typer.echo("\n".join(markdown(lines)))
