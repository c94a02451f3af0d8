"""``check``, ``fit`` and ``demo``: everything before the first question."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from forwardinf_core.commands.output import AsJson, print_json
from forwardinf_core.commands.progress import progress_line

if TYPE_CHECKING:
    from forwardinf_core.jobs.forecast import Forecast
    from forwardinf_core.projects.findings import Problem
    from forwardinf_core.projects.forecast import Forecast as Rates


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("check")(check)
    app.command("fit")(fit)
    demos = typer.Typer(help="The demo projects that come with the program.", no_args_is_help=True)
    demos.command("build")(build)
    app.add_typer(demos, name="demo")


def check(
    project: Annotated[str, typer.Argument(help="A folder or demo:NAME.")],
    all_images: Annotated[bool, typer.Option("--all-images", help="Decode every image of a large set too.")] = False,
    allow_code: Annotated[bool, typer.Option("--allow-code", help="Let an adapter's Python file run.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say everything that is wrong with a project before a long run, and what a run will cost. Exit 2 on errors."""
    from forwardinf_core.jobs.forecast import in_words
    from forwardinf_core.projects.check import check_project

    if is_language(project):
        check_texts(project, as_json=as_json)
        return
    if is_diffusion(project):
        check_pictures(project, all_images=all_images, as_json=as_json)
        return
    with progress_line(quiet=as_json) as report:
        found = check_project(project, allow_code=allow_code, all_images=all_images, report=report)
    works = works_of(project, found.forecast, allow_code=allow_code) if found.is_ready and found.forecast else {}
    if as_json:
        print_json(
            {**asdict(found), "is_ready": found.is_ready, "costs": {name: asdict(cost) for name, cost in works.items()}}
        )
    else:
        tell_problems(found.problems)
        if found.forecast is not None:
            cost = found.forecast
            typer.echo(
                f"One pass over the training rows takes about {in_words(cost.decode_seconds + cost.forward_seconds)} "
                f"and {cost.memory_bytes / 2**20:.0f} MiB; caches take up to {cost.disk_bytes / 2**20:.0f} MiB of disk."
            )
        tell_costs(works)
        typer.echo("Ready to audit." if found.is_ready else "Not ready: mend the errors above.")
    if not found.is_ready:
        raise typer.Exit(2)


def tell_problems(problems: Iterable[Problem]) -> None:
    """Print what is wrong, a line each."""
    for problem in problems:
        typer.echo(f"{problem.level} in {problem.where}: {problem.title} {problem.hint}".rstrip())


def tell_costs(costs: Mapping[str, Forecast]) -> None:
    """Print what long work costs, a line each."""
    for name, cost in costs.items():
        typer.echo(f"{name}: {cost.brief}. {cost.warning}".rstrip())


def works_of(project: str, rates: Rates, *, allow_code: bool) -> dict[str, Forecast]:
    """Return what each sort of long work on a project costs."""
    from forwardinf_core.audits.costs import of_every
    from forwardinf_core.audits.opening import load_audit

    return of_every(load_audit(project, allow_code=allow_code), rates)


def is_language(project: str) -> bool:
    """Say whether a project is one of language models; what is wrong with it is said by whoever opens it."""
    from forwardinf_core.errors import ProjectError
    from forwardinf_core.projects.language import language_task_of

    try:
        return language_task_of(project) is not None
    except ProjectError:
        return False


def check_texts(project: str, *, as_json: bool) -> None:
    """Say what a language project holds and what a pass over it costs."""
    from forwardinf_core.audits.tracing.checking import check_language
    from forwardinf_core.jobs.forecast import in_words

    found = check_language(project)
    if as_json:
        print_json(asdict(found))
        return
    typer.echo(
        f"{found.texts:,} texts, about {found.tokens:,} tokens; {found.parameters:,} parameters, "
        f"{found.context} tokens at a time."
    )
    typer.echo(
        f"One pass over the texts takes about {in_words(found.pass_seconds)}; hidden states take "
        f"{found.hidden_bytes / 2**20:.0f} MiB of disk."
    )
    tell_costs(found.costs)
    if found.unscored:
        typer.echo(f"{found.unscored} of the texts looked at have fewer than two tokens and cannot be scored.")
    typer.echo("Ready to trace.")


def is_diffusion(project: str) -> bool:
    """Say whether a project is one of diffusion models; what is wrong with project.yaml is said by whoever opens it."""
    from forwardinf_core.audits.opening import task_of
    from forwardinf_core.errors import ProjectError

    try:
        return task_of(project) == "diffusion"
    except ProjectError:
        return False


def check_pictures(project: str, *, all_images: bool, as_json: bool) -> None:
    """Say what is wrong with a diffusion project, what it holds and what work on it costs. Exit 2 on errors."""
    from forwardinf_core.audits.generation.checking import check_generation
    from forwardinf_core.jobs.forecast import in_words

    with progress_line(quiet=as_json) as report:
        found = check_generation(project, all_images=all_images, report=report)
    if as_json:
        print_json({**asdict(found), "is_ready": found.is_ready})
    else:
        tell_problems(found.problems)
        typer.echo(f"{found.images:,} images; {found.parameters:,} parameters, {found.n_timesteps:,} noise levels.")
        if found.pass_seconds is not None:
            typer.echo(f"One look at every image takes about {in_words(found.pass_seconds)}.")
        tell_costs(found.costs)
        typer.echo("Ready to trace." if found.is_ready else "Not ready: mend the errors above.")
    if not found.is_ready:
        raise typer.Exit(2)


def fit(
    project: Annotated[str, typer.Argument(help="A folder or demo:NAME.")],
    seed: Annotated[int, typer.Option(help="Same seed, same cores: same bytes.")] = 0,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training rows.")] = None,
    size: Annotated[int | None, typer.Option(min=8, max=256, help="Images are reduced to this side.")] = None,
    width: Annotated[int | None, typer.Option(min=8, max=256, help="Channels of the first layer.")] = None,
    held_out: Annotated[float, typer.Option(min=0, max=0.5, help="Share of rows kept out to watch.")] = 0.0,
    patience: Annotated[int, typer.Option(min=0, help="Epochs without progress on them before it stops.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Train the built-in network for a project that has no model. Interrupted, it goes on from the last epoch."""
    from forwardinf_core.audits.fitting import FitOptions
    from forwardinf_core.jobs.run import run_here
    from forwardinf_core.projects.load import open_project

    if is_language(project):
        fit_language(project, seed=seed, epochs=epochs, width=width, as_json=as_json)
        return
    options = FitOptions(seed, epochs, size, width, held_out, patience)
    with progress_line(quiet=as_json) as report:
        found = run_here(
            "fit",
            open_project(project).root,
            options,
            lambda done, total, note: report(done / max(total, 1), note),
            log=said,
        )
    if as_json:
        print_json(found)
    else:
        accuracy, loss = found.get("test_accuracy"), found.get("loss")  # a classifier's, a denoiser's
        told = ""
        if isinstance(accuracy, float) and accuracy >= 0:
            told = f", {100 * accuracy:.1f}% of the test rows right"
        elif isinstance(loss, float):
            told = f", loss {loss:.4f}"
        typer.echo(f"Trained: {found['model']}{told}.")


def said(text: str) -> None:
    """Print a line of a job's log beside its progress."""
    typer.echo(f"\r{text:<92}", err=True)


def fit_language(project: str, *, seed: int, epochs: int | None, width: int | None, as_json: bool) -> None:
    """Train the built-in language model."""
    from forwardinf_core.audits.tracing.fitting import LanguageFitOptions
    from forwardinf_core.jobs.run import run_here
    from forwardinf_core.projects.language import open_language_project

    options = LanguageFitOptions(seed, epochs, width)
    with progress_line(quiet=as_json) as report:
        found = run_here(
            "fit-language",
            open_language_project(project).root,
            options,
            lambda done, total, note: report(done / max(total, 1), note),
            log=said,
        )
    if as_json:
        print_json(found)
    else:
        typer.echo(f"Trained: {found['model']}, loss {found['loss']:.2f} a token.")


def build(
    name: Annotated[str, typer.Argument(help="digits or facts")],
    as_json: AsJson = False,
) -> None:
    """Build a demo project on this machine; nothing is downloaded."""
    from forwardinf_core.audits.opening import ensure_demo
    from forwardinf_core.jobs.run import run_here

    with progress_line(quiet=as_json) as report:
        folder = ensure_demo(name, run_here, report)
    if as_json:
        print_json({"demo": name, "folder": folder})
    else:
        typer.echo(f"demo:{name} is ready in {folder}")
