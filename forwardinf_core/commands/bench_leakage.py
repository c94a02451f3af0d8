"""``bench leakage``, ``memorization`` and ``text-damping``: what is behind the figures of docs/leakage.md, text.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from forwardinf_core.commands.output import AsJson, print_json, print_table
from forwardinf_core.commands.progress import progress_line

if TYPE_CHECKING:
    from forwardinf_core.benchmarks.memorization import Measured


def register_in(group: typer.Typer) -> None:
    """Add them to the group ``bench``."""
    group.command("leakage")(leakage)
    group.command("memorization")(memorization)
    group.command("text-damping")(text_damping)


def leakage(
    project: Annotated[str, typer.Argument(help="A folder with a trained model.")],
    pairs: Annotated[Path | None, typer.Option(help="CSV with test_id, train_id of known near-duplicates.")] = None,
    also: Annotated[
        Path | None, typer.Option(help="With --pairs, further true pairs: a CSV with test_id, train_id, judgment 1.")
    ] = None,
    recipe: Annotated[bool, typer.Option("--recipe", help="Also the released recipe, on five queries.")] = False,
    as_json: AsJson = False,
) -> None:
    """Exact copies by the paper's protocol, and known near-duplicates, by every signal and fused."""
    from forwardinf_core.audits.leakage import report
    from forwardinf_core.audits.opening import open_audit
    from forwardinf_core.benchmarks import leakage as bench
    from forwardinf_core.errors import DataError

    if also is not None and pairs is None:
        raise DataError("--also adds to a list, and no list is given.", hint="Give it with --pairs.")
    with progress_line(quiet=as_json) as tell:
        audit = open_audit(project, report=tell)
        found = report.run(audit, report=tell)
        tables = {
            "exact copies (1% of the training rows)": bench.table_of(bench.ranks_of(audit, bench.exact_copies(audit)))
        }
        verdict = None
        if pairs is not None:
            tests, trains = bench.listed_pairs(audit, pairs)
            ranks = bench.ranks_of(audit, bench.listed_copies(audit, tests, trains))
            tables["listed pairs, reported half"] = bench.table_of(ranks, slice(1, None, 2))
            tables["listed pairs, half looked at"] = bench.table_of(ranks, slice(0, None, 2))
            tables["listed pairs, all"] = bench.table_of(ranks)
            if also is not None:
                more_tests, more_trains = bench.listed_pairs(audit, also, same_shot=True)
                more = bench.ranks_of(audit, bench.listed_copies(audit, more_tests, more_trains))
                both = bench.with_judged(ranks, tests, more, more_tests)
                tables["listed pairs, all, or another row judged the same shot"] = bench.table_of(both)
                tables["… of them the reported half"] = bench.table_of(both, slice(1, None, 2))
            if recipe:
                tables["listed pairs, released recipe"] = (
                    bench.found_of("forward-inf", bench.recipe_ranks(audit, tests, trains)),
                )
            verdict = bench.flagged(audit, found, tests)
        repeats, planted = None, []
        if audit.content == "text":
            from forwardinf_core.audits.leakage.medium import medium_of
            from forwardinf_core.benchmarks import leakage_texts as of_texts

            repeats = of_texts.natural_repeats(audit, found)
            kinds = [*medium_of("text").kinds, of_texts.PARAPHRASED]
            planted = [of_texts.measure_planted(audit, kind) for kind in kinds]
    if as_json:
        print_json(
            {
                "tables": {name: [asdict(one) for one in table] for name, table in tables.items()},
                "verdict": None if verdict is None else asdict(verdict),
                "natural_repeats": None if repeats is None else asdict(repeats),
                "planted": [asdict(one) for one in planted],
                "check": dict(found.check),
                "seconds": dict(found.seconds),
            }
        )
        return
    for name, table in tables.items():
        typer.echo(f"\n{name}")
        cells = [(f.signal, str(f.pairs), f"{f.top1:.3f}", f"{f.top5:.3f}", f"{f.median:g}") for f in table]
        print_table(("signal", "pairs", "top-1", "top-5", "median rank"), cells)
    if verdict is not None:
        typer.echo(
            f"\nVerdict over all test rows: {verdict.flagged} called copies; {verdict.listed_found} of "
            f"{verdict.listed} listed rows found, {len(verdict.unlisted)} called copies are not in the list."
        )
    for one in planted:
        typer.echo(f"\nplanted: {one.kind}; called copies of their origin at even odds: {one.called:.3f}")
        cells = [(f.signal, str(f.pairs), f"{f.top1:.3f}", f"{f.top5:.3f}", f"{f.median:g}") for f in one.signals]
        print_table(("signal", "rows", "top-1", "top-5", "median rank"), cells)
    if repeats is not None:
        typer.echo(
            f"\nNatural repeats: {repeats.repeats} test rows repeat a training row word for word; "
            f"{repeats.called_exact} of them called exact copies ({repeats.conflicting} with conflicting labels); "
            f"{len(repeats.others)} others called copies:"
        )
        print_table(
            ("test", "train", "conf.", "verdict", "test text", "training text"),
            [(one[0], one[1], f"{one[2]:.3f}", one[3], one[4][:70], one[5][:70]) for one in repeats.others[:40]],
        )
    typer.echo("Seconds: " + ", ".join(f"{name} {seconds:.0f}" for name, seconds in found.seconds.items()))


def memorization(
    folder: Annotated[Path, typer.Argument(help="A folder to keep the networks in; resumed from there.")],
    cifar: Annotated[
        Path | None, typer.Option(help="Folder with CIFAR-10N's train.parquet; else digits alone.")
    ] = None,
    texts: Annotated[
        bool, typer.Option("--texts", help="A language model instead: sentences of the facts demo.")
    ] = False,
    text_set: Annotated[Path | None, typer.Option(help="With --texts, also a folder with corpus.parquet.")] = None,
    built_in: Annotated[bool, typer.Option("--built-in", help="Digits also with the built-in network.")] = False,
    models: Annotated[int, typer.Option(min=4, help="Networks on random halves.")] = 200,
    as_json: AsJson = False,
) -> None:
    """Scores against memorization measured by retraining: Spearman, on digits and on 2,000 rows of CIFAR-10N."""
    from forwardinf_core.benchmarks import memorization as bench

    with progress_line(quiet=as_json) as tell:
        found = (
            _of_texts(folder, text_set, models, tell)
            if texts
            else [bench.measure_small(bench.problem_recipe("digits", None).rows, models=models)]
        )
        for name in (
            [*(["digits"] if built_in else []), *(["cifar10n"] if cifar is not None else [])] if not texts else []
        ):
            found.append(bench.measure(name, bench.problem_recipe(name, cifar), folder, models=models, report=tell))
    if as_json:
        print_json([asdict(one) for one in found])
        return
    for one in found:
        typer.echo(f"\n{one.problem}: {one.n_rows} rows, {one.n_models} networks, halves agree {one.ceiling:.3f}")
        cells = [(r.score, f"{r.choosing:.3f}", f"{r.reporting:.3f}") for r in one.ranks]
        print_table(("score", "half to choose on", "half to report"), cells)


def _of_texts(folder: Path, text_set: Path | None, models: int, tell: Callable[[float, str], None]) -> list[Measured]:
    """Return the figures of language models: on the demo's sentences, and on a set where one is given."""
    from forwardinf_core.benchmarks import memorization_texts as bench

    corpora = [bench.corpus_of(bench.DEMO, bench.demo_texts())]
    if text_set is not None:
        corpora.append(bench.corpus_of(text_set.name, bench.set_texts(text_set)))
    return [bench.measure(corpus, folder, models=models, report=tell) for corpus in corpora]


def text_damping(
    data: Annotated[Path, typer.Argument(help="A folder with train.parquet: id, text, label_name.")],
    work: Annotated[Path, typer.Argument(help="A folder for the project and what is retrained; gone on from there.")],
    rows: Annotated[int, typer.Option(min=20, help="Training rows, of the quarter to choose on.")] = 600,
    queries: Annotated[int, typer.Option(min=1, help="Queries, each with two planted copies.")] = 40,
    halves: Annotated[int, typer.Option(min=0, help="Classifiers retrained on halves; 0 for none.")] = 60,
    as_json: AsJson = False,
) -> None:
    """Which damping suits the head and tail of a text classifier: planted wrong copies, and retrained halves."""
    from forwardinf_core.benchmarks import text_damping as bench

    with progress_line(quiet=as_json) as tell:
        audit = bench.open_planted(data, work, n_rows=rows, n_queries=queries)
        found = bench.measure(audit, halves=halves, report=tell)
    if as_json:
        print_json([asdict(one) for one in found])
        return
    cells = [
        (
            one.method,
            f"{one.damping:g}",
            *(f"{value:.3f}" for value in (one.wrong_last, one.wrong_in_last_5, one.copy_helpful)),
            f"{one.lds:.3f} ({one.low:.3f} to {one.high:.3f})",
        )
        for one in found
    ]
    typer.echo(f"{found[0].data}: {found[0].n_rows} training rows")
    print_table(("method", "damping", "wrong copy last", "in last 5", "copy in first 1%", "LDS"), cells)
