"""The two measurements of the hypothesis on a project's rows: the summary and the tables that their run keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from forwardinf_core.audits.context import Context
from forwardinf_core.audits.fitting import FitOptions, suitable_preprocessing
from forwardinf_core.errors import DataError
from forwardinf_core.jobs.context import JobContext
from forwardinf_core.projects.load import Project
from forwardinf_core.store.binding import Option
from forwardinf_core.store.chunks import ChunkStore
from forwardinf_core.verification.convex import (
    N_ROWS,
    ConvexResult,
    Floats,
    both_influences,
    living,
    pearson,
    regression,
    scaled,
)
from forwardinf_core.verification.estimates import head_estimates
from forwardinf_core.verification.groups import (
    GroupPlan,
    GroupResult,
    bootstrap,
    group_influences,
    make_plan,
    repeatability,
)
from forwardinf_core.verification.hypothesis_records import POINTS, QUERIES, HypothesisOptions
from forwardinf_core.verification.hypothesis_rows import Drawn, balanced, drawn, rows_of
from forwardinf_core.verification.lds import spearman
from forwardinf_core.verification.logistic import LogisticRows
from forwardinf_core.verification.network_estimates import network_estimates
from forwardinf_core.verification.paper_network import PaperNetwork, PaperRecipe
from forwardinf_core.verification.paper_network import scaled as as_images
from forwardinf_core.verification.retraining import Examples, Retraining

NETWORK_ROWS = {1: 1_050, 3: 900}  # by channels, as released
NETWORK_EPOCHS = {1: 10, 3: 20}

Measured = tuple[dict[str, Option], dict[str, pd.DataFrame]]


@dataclass(frozen=True)
class ConvexProblem:
    """The regression on a project's rows, fitted, and the rows that are asked about."""

    problem: LogisticRows
    asked_of: Examples
    rows: Drawn
    offered: Drawn


def convex_problem(context: Context, project: Project, options: HypothesisOptions) -> ConvexProblem:
    """Return what rows are left out of. Raises DataError where no test row has a label."""
    train, test = rows_of(project)
    preprocessing = suitable_preprocessing(train, FitOptions())
    rows = drawn(context, project, train, preprocessing, train.labels, options.rows or N_ROWS, options.seed)
    offered = drawn(context, project, test, preprocessing, test.labels, None, options.seed)
    if not len(offered.examples):
        raise DataError("No test row has a label.", hint="Check the label column of test: in project.yaml.")
    pixels = living(rows.examples)
    context.report(0, 1, "Fitting the regression on all rows")
    problem = regression(rows.examples, len(train.classes))
    return ConvexProblem(problem, Examples(scaled(offered.examples, pixels), offered.examples.labels), rows, offered)


def measure_convex(context: JobContext, project: Project, options: HypothesisOptions) -> Measured:
    found = convex_problem(context, project, options)
    n = len(found.rows.ids)

    def kept(start: int, stop: int, compute: Callable[[], Tensor]) -> Tensor:
        key = f"left-out-{start:08d}"
        found = context.chunks.get(key)
        if found is None:
            found = {"losses": compute()}
            context.chunks.put(key, found)
        context.report(stop, n, f"{stop:,} of {n:,} rows left out")
        return found["losses"]

    result = both_influences(found.problem, found.asked_of, each=options.each, seed=options.seed, kept=kept)
    return _convex_tables(found.problem, result, found.asked_of, found.rows, found.offered)


def _convex_tables(
    problem: LogisticRows, result: ConvexResult, asked_of: Examples, rows: Drawn, offered: Drawn
) -> Measured:
    n = len(rows.ids)
    queries = asked_of.at(result.queries)
    features = Examples(problem.inputs[:, :-1], problem.labels)
    estimates = head_estimates(features, queries, problem.fit, problem.preconditioner)
    by_query = pd.DataFrame(
        {
            "query_id": [offered.ids[p] for p in result.queries.tolist()],
            "chosen": np.where(result.highest, "highest loss", "random"),
            "label": queries.labels.numpy(),
            "loss": result.losses,
            "pearson": result.pearson,
            "spearman": result.spearman,
        }
    )
    points = pd.DataFrame(
        {
            "query_id": np.repeat(by_query["query_id"].to_numpy(), n),
            "id": np.tile(np.array(rows.ids, dtype=object), len(by_query)),
            "label": np.tile(rows.examples.labels.numpy(), len(by_query)),
            "train_to_test": result.train_to_test.ravel(),
            "mirrored": result.mirrored.ravel(),
            **{name: scores.ravel().astype(np.float32) for name, scores in estimates.items()},
        }
    )
    told = result.highest if result.highest.any() else ~result.highest  # the paper's queries; the random ones beside
    linear, ranked = result.pearson[told], result.spearman[told]
    low, high = bootstrap(linear, linear, lambda a, _b: np.asarray(np.nanmean(a, axis=0)))
    kinds = {kind: by_query[by_query["chosen"] == kind] for kind in ("highest loss", "random")}
    summary: dict[str, Option] = {
        "pearson": float(np.nanmean(linear)),
        "spearman": float(np.nanmean(ranked)),
        "interval": [low, high],
        "n_rows": n,
        "n_queries": len(linear),
        "estimates": _correlations(result.train_to_test, estimates),
        "by_kind": {
            kind: [float(part["pearson"].mean()), float(part["spearman"].mean())]
            for kind, part in kinds.items()
            if len(part)
        },
        "failed": [],
    }
    return summary, {POINTS: points, QUERIES: by_query}


def _correlations(truth: Floats, estimates: Mapping[str, Floats]) -> dict[str, Option]:
    """Return mean Pearson and Spearman over the queries for each estimate; both (n_queries, n_rows)."""
    return {
        name: [float(np.nanmean(pearson(truth.T, scores.T))), float(np.nanmean(spearman(truth.T, scores.T)))]
        for name, scores in estimates.items()
    }


def network_plan(context: Context, project: Project, options: HypothesisOptions) -> tuple[GroupPlan, PaperRecipe]:
    """Return the groups and their trainings, and how the paper's network is trained."""
    train, test = rows_of(project)
    preprocessing = suitable_preprocessing(train, FitOptions())
    reference = project.config.reference_label
    labels = train.labels if reference is None else train.labels_in(reference)
    count = options.rows or NETWORK_ROWS[preprocessing.channels]
    rows = drawn(context, project, train, preprocessing, labels, count, options.seed)
    queries = balanced(context, project, test, preprocessing, options.seed)
    n_classes = len(train.classes)
    plan = make_plan(
        rows.examples.labels.numpy(),
        len(queries),
        n_classes=n_classes,
        share=options.share,
        seeds=range(options.seeds),
        seed=options.seed,
    )
    epochs = options.epochs or NETWORK_EPOCHS[preprocessing.channels]
    return plan, PaperRecipe(Examples.joined(rows.examples, queries), n_classes, epochs)


def measure_network(context: JobContext, project: Project, options: HypothesisOptions) -> Measured:
    plan, recipe = network_plan(context, project, options)
    wrong = torch.tensor(list(plan.wrong)), torch.tensor(list(plan.wrong.values()))
    watched = Examples(recipe.rows.inputs, recipe.rows.labels.clone())
    watched.labels[wrong[0]] = wrong[1]
    binding = recipe.binding("retraining", watched=watched)
    store = ChunkStore(project.audit_dir / "retrained" / binding.key()[:16], binding)

    def on_report(fraction: float, note: str) -> None:
        context.report(fraction * len(plan.tasks), len(plan.tasks), note)

    outcomes = Retraining(recipe, watched, store).outcomes(plan.tasks, report=on_report)
    result = group_influences(plan, outcomes)
    estimates = _group_estimates(recipe, plan, watched)
    return _network_summary(plan, result, estimates), {
        POINTS: _group_points(plan, result, estimates),
        QUERIES: pd.DataFrame({"label": recipe.rows.labels[plan.n_rows :].numpy()}),
    }


def _group_estimates(recipe: PaperRecipe, plan: GroupPlan, watched: Examples) -> dict[str, Floats]:
    """Return each estimate summed over the groups (n_groups,), on the first seed's network of all rows."""
    batch = {"x": as_images(watched.inputs), "label": watched.labels}
    rows, queries = ({name: value[part] for name, value in batch.items()} for part in _sides(plan))
    network = recipe.network(plan.tasks[0])
    scores = network_estimates(network, rows, queries, head=PaperNetwork.HEAD, tail=PaperNetwork.TAIL)
    return {name: np.array([value[group].sum() for group in plan.groups]) for name, value in scores.items()}


def _sides(plan: GroupPlan) -> tuple[slice, slice]:
    return slice(0, plan.n_rows), slice(plan.n_rows, None)


def _network_summary(plan: GroupPlan, result: GroupResult, estimates: Mapping[str, Floats]) -> dict[str, Option]:
    usable = result.usable
    if usable.sum() < 3:
        raise DataError(
            "Nearly every retraining failed, so there is nothing to correlate.",
            hint=f"Failed: {', '.join(result.failed[:5])}. Check the rows for broken images.",
        )
    truth, mirrored = result.train_to_test[usable], result.mirrored[usable]
    low, high = bootstrap(truth, mirrored, pearson)

    def both(scores: Floats) -> list[Option]:
        pair = truth[:, None], scores[:, None]
        return [float(pearson(*pair)[0]), float(spearman(*pair)[0])]

    found = both(mirrored)
    repeatable = [repeatability(values) for values in (result.train_to_test_by_seed, result.mirrored_by_seed)]
    return {
        "pearson": found[0],
        "spearman": found[1],
        "interval": [low, high],
        "n_rows": plan.n_rows,
        "n_queries": plan.n_queries,
        "group_size": len(plan.groups[0]),
        "estimates": {name: cast("Option", both(value[usable])) for name, value in estimates.items()},
        "by_kind": {},
        "repeatability": cast("Option", repeatable if np.isfinite(repeatable).all() else []),  # one seed says nothing
        "failed": list(result.failed),
    }


def _group_points(plan: GroupPlan, result: GroupResult, estimates: Mapping[str, Floats]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "group": np.arange(1, len(plan.groups) + 1),
            "wrong_share": plan.shares,
            "train_to_test": result.train_to_test,
            "mirrored": result.mirrored,
            "train_to_test_spread": np.nanstd(result.train_to_test_by_seed, axis=0),
            "mirrored_spread": np.nanstd(result.mirrored_by_seed, axis=0),
            **estimates,
        }
    )
