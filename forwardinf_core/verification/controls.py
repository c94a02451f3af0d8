r"""Controls that need no retraining: would the method say the same of any model, any query, any step length?

Scores of the same random test rows are made again with one thing changed at a time. On the head all of it takes about a
second, so these are computed at once; other methods do the same as a job.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.context import AtOnce, Context
from forwardinf_core.audits.methods import Method, method_named
from forwardinf_core.audits.opening import fingerprints_of, load_audit
from forwardinf_core.audits.preparation import Opened, Workplace
from forwardinf_core.audits.scoring import score_group
from forwardinf_core.errors import DataError
from forwardinf_core.influence.head import FEATURES, HeadNetwork, fits_dense
from forwardinf_core.influence.objective import Batch
from forwardinf_core.jobs import run as jobs
from forwardinf_core.jobs.context import JobContext
from forwardinf_core.jobs.registry import job
from forwardinf_core.store.binding import Binding, Option
from forwardinf_core.store.runs import RunRecord, find_run, save_run
from forwardinf_core.verification.checks import Check, at_least, at_most
from forwardinf_core.verification.head_scores import as_rows, embedded, head_of, head_scores

KIND = "controls"
VERSION = 2
TOP = 20  # rows compared as "the top": what the attribution screen shows first
FACTORS = (0.3, 3.0)  # of the step's length
Scores = NDArray[np.float32]  # (n_queries, n_train)


@dataclass(frozen=True)
class ControlOptions:
    """Which method is checked, and on how many random labelled test rows."""

    method: str = "head"
    queries: int = 20
    seed: int = 0


def stored_controls(audit: Audit, options: ControlOptions) -> tuple[Check, ...] | None:
    """Return the controls where they have been made for this model, these rows and options."""
    record = find_run(audit.project, KIND, _binding(audit, options).key())
    return None if record is None else checks_of(record)


def instant_controls(audit: Audit) -> tuple[Check, ...] | None:
    """Return the controls of the head, read back or computed now in about a second; None where they would take long."""
    options = ControlOptions()
    found = stored_controls(audit, options)
    if found is None and audit.is_quick(method_named(options.method)):
        found = checks_of(make_controls(audit, options, AtOnce()))
    return found


def start_controls(audit: Audit, options: ControlOptions) -> int:
    """Queue the controls of a method and return the job's id."""
    return jobs.submit(KIND, audit.folder, options)


def make_controls(audit: Audit, options: ControlOptions, context: Context) -> RunRecord:
    """Make the controls of a method and keep them as a run."""
    method, queries = method_named(options.method), control_queries(audit, options)
    batches = [audit.queries.batch(f"test:{audit.test_ids[p]}", int(audit.test.labels[p])) for p in queries]
    place = audit.workplace(context)
    group = score_group(place, method, batches)
    base = np.stack([one.table.score for one in group.queries])
    found = [unchanged(group.control, group.control_rows)]
    found.append(randomised(base, _shuffled_scores(audit, method, batches, options.seed, context), audit.train_labels))
    if method.rise is not None:
        lengths = [replace(method, rise=factor * method.rise) for factor in FACTORS]
        others = [np.stack([q.table.score for q in score_group(place, m, batches).queries]) for m in lengths]
        found.append(steady("step", base, others))
    if method.scope == "head" and is_small(place):
        found.append(steady("dtype", base, [_precise_scores(place, method, batches, audit.train_labels)]))
    found.append(overlap(base, audit.test.labels[queries]))
    return save_run(
        audit.project,
        KIND,
        _binding(audit, options).key(),
        options={"method": options.method, "queries": len(queries), "seed": options.seed},
        summary={"checks": [check.record() for check in found]},
    )


def is_small(place: Workplace) -> bool:
    """Say whether the head can be scored in double precision at once, curvature and all."""
    return fits_dense(head_of(place)[0])


def checks_of(record: RunRecord) -> tuple[Check, ...]:
    """Return the checks that a run holds."""
    kept = record.summary["checks"]
    assert isinstance(kept, list)
    return tuple(Check.of(one) for one in kept if isinstance(one, dict))


def control_queries(audit: Audit, options: ControlOptions) -> NDArray[np.int64]:
    """Return positions of random labelled test rows. Raises DataError below two."""
    labelled = np.flatnonzero(audit.test.labels >= 0)
    if len(labelled) < 2:
        raise DataError("The controls need at least two labelled test rows.", hint="Label some test rows.")
    draw = np.random.default_rng(options.seed)
    return np.sort(draw.choice(labelled, min(options.queries, len(labelled)), replace=False)).astype(np.int64)


def unchanged(largest: float, rows: int) -> Check:
    """Judge the largest |score| of a model that did not move."""
    good = largest == 0
    return Check(
        "unchanged",
        "Unchanged model",
        "green" if good else "red",
        largest,
        "exactly 0" if good else f"{largest:.2g}",
        f"With no step taken, each of {rows:,} rows scores exactly 0: nothing but the step makes a score."
        if good
        else "Rows get scores although nothing moved: the stored outputs are of another model, or it does not repeat.",
        "Green: exactly 0. Red: anything else, for then a score is not the effect of the step.",
    )


def randomised(base: Scores, other: Scores, labels: NDArray[np.int64]) -> Check:
    """Judge the agreement with the scores of the same model with shuffled weights, among rows of the same label.

    A model with random weights still knows each row's label, through the loss; comparing within a label leaves that
    out.
    """
    agreement = float(np.nanmean([within_labels(a, b, labels) for a, b in zip(base, other, strict=True)]))
    return Check(
        "randomised",
        "Randomised weights",
        at_most(abs(agreement), 0.2, 0.5),
        agreement,
        f"{agreement:.2f}",
        "Rank correlation with the scores of the same network with shuffled weights: near 0, the scores come from what "
        "the model has learned.",
        "Green: at most 0.2 either way. Amber: at most 0.5. Red: more, for then the ranking says little of this model. "
        "Among rows of the same label, because a shuffled model still sees each row's label.",
    )


SAME = ((0.95, 0.8), "Green: at least 0.95, where the first rows stay the same. Amber: at least 0.8. Red: less.")
STEADY_WORDS: dict[str, tuple[str, str, tuple[float, float], str]] = {
    "step": (
        "Step length",
        "Smallest mean rank correlation with the scores of a step three times shorter or longer: near 1, the arbitrary "
        "length of the step does not matter.",
        *SAME,
    ),
    "dtype": (
        "Numerical precision",
        "Mean rank correlation with the same scores in double precision: near 1, rounding does not matter.",
        *SAME,
    ),
    "seed": (
        "Another training",
        "Mean rank correlation between the scores of two networks trained on the same rows from different seeds: how "
        "much of a ranking belongs to the data, and not to one training.",
        (0.5, 0.2),
        "Green: at least 0.5. Amber: at least 0.2. Red: less. Two trainings never agree fully; averaging over several "
        "networks helps.",
    ),
}


def steady(name: str, base: Scores, others: Sequence[Scores]) -> Check:
    """Judge how much a ranking keeps when something that should not matter is changed."""
    title, meaning, (green, amber), rule = STEADY_WORDS[name]
    figure = min(float(np.nanmean([rank_correlation(a, b) for a, b in zip(base, o, strict=True)])) for o in others)
    return Check(
        name,
        title,
        at_least(figure, green, amber),
        figure,
        f"{figure:.3f}",
        meaning,
        rule,
    )


def overlap(scores: Scores, labels: NDArray[np.int64]) -> Check:
    """Judge how many of the top rows queries of different labels share."""
    tops = [set(np.argsort(-row, kind="stable")[:TOP].tolist()) for row in scores]
    pairs = [(a, b) for a, b in combinations(range(len(tops)), 2) if labels[a] != labels[b]]
    share = float(np.mean([len(tops[a] & tops[b]) for a, b in pairs])) / TOP if pairs else float("nan")
    chance = min(TOP / scores.shape[1], 1.0)
    return Check(
        "overlap",
        "Unrelated queries",
        at_most(share, 0.1 + chance, 0.3 + chance),
        share,
        f"{100 * share:.0f}% shared",
        f"Of the {TOP} most helpful rows, so many are the same for two test rows of different labels, where "
        f"{100 * chance:.1g}% would be by chance: few, the answer is about the query.",
        "Green: at most 10% above chance. Amber: at most 30%. Red: more, for then the same rows answer every question.",
    )


def rank_correlation(a: Scores, b: Scores) -> float:
    """Return Spearman's rank correlation, NaN where one of the two is constant."""
    ranks = [rankdata(x).astype(np.float64) for x in (a, b)]
    centred = [r - r.mean() for r in ranks]
    size = float(np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum()))
    return float((centred[0] * centred[1]).sum()) / size if size > 0 else float("nan")


def within_labels(a: Scores, b: Scores, labels: NDArray[np.int64]) -> float:
    """Return the rank correlation among rows of one label, averaged over labels by their number of rows."""
    values, weights = [], []
    for label in np.unique(labels):
        rows = labels == label
        value = rank_correlation(a[rows], b[rows]) if rows.sum() > 2 else float("nan")
        if np.isfinite(value):
            values.append(value)
            weights.append(int(rows.sum()))
    return float(np.average(values, weights=weights)) if values else float("nan")


def shuffled(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return a tensor with its values in random places: the same scale, nothing learned."""
    order = torch.randperm(tensor.numel(), generator=generator)
    return tensor.detach().flatten()[order].view_as(tensor).clone()


def _shuffled_scores(audit: Audit, method: Method, batches: Sequence[Batch], seed: int, context: Context) -> Scores:
    """Return the scores of the same method on the model with shuffled weights: the head's, or those of every layer."""
    generator = torch.Generator().manual_seed(seed)
    place = audit.workplace(context)
    if method.scope == "head":
        own, features = head_of(place)
        network = HeadNetwork(own.objective, {n: shuffled(v, generator) for n, v in own.parameters.items()})
        return head_scores(network, as_rows(features, audit.train_labels), embedded(place, batches), method)
    module = copy.deepcopy(audit.model.module)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(shuffled(parameter, generator))
    model = replace(audit.model, module=module, fingerprint=f"{audit.model.fingerprint}-shuffled{seed}")
    folder = audit.project.audit_dir / "work" / f"shuffled-{model.fingerprint[:16]}"
    other = Workplace(model, audit.train, folder, context, Opened())
    try:
        return np.stack([one.table.score for one in score_group(other, method, batches).queries])
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # the caches of a model that nobody asks again


def _precise_scores(place: Workplace, method: Method, batches: Sequence[Batch], labels: NDArray[np.int64]) -> Scores:
    """Return the head's scores with everything in double precision."""
    own, features = head_of(place)
    network = HeadNetwork(own.objective, {name: value.double() for name, value in own.parameters.items()})
    queries = [{**query, FEATURES: query[FEATURES].double()} for query in embedded(place, batches)]
    return head_scores(network, as_rows(features.double(), labels), queries, method)


def _binding(audit: Audit, options: ControlOptions) -> Binding:
    record: dict[str, Option] = {"method": options.method, "queries": options.queries, "seed": options.seed}
    return Binding(KIND, fingerprints_of(audit.folder, options), record, VERSION)


@job(KIND, version=VERSION, fingerprints=fingerprints_of)
def control(context: JobContext, options: ControlOptions) -> dict[str, Option]:
    """Make the controls of a method. Returns the id of the run."""
    return {"run": make_controls(load_audit(context.project), options, context).id}
