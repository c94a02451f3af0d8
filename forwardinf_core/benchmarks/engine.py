r"""``bench engine``: what the engine costs, as ratios to a plain forward pass measured in the same run.

Every ratio is the median of pairs A, B, A, B … on the rows of one project. "A pass" is one forward pass of the whole
unchanged model over all training rows, decoding included.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from forwardinf_core.audits import scopes
from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.methods import Method, method_named
from forwardinf_core.audits.preparation import Opened, Workplace
from forwardinf_core.audits.scoring import score_group, step_options
from forwardinf_core.errors import ModelError
from forwardinf_core.influence.head import FEATURES, HeadFisherFit, HeadNetwork, score_many
from forwardinf_core.influence.network import FullNetwork, slices
from forwardinf_core.influence.objective import Batch, Classification
from forwardinf_core.influence.scoring import score_rows
from forwardinf_core.influence.step import take_steps
from forwardinf_core.jobs.context import JobContext
from forwardinf_core.models.rows import ModelRows
from forwardinf_core.store.binding import Binding
from forwardinf_core.store.chunks import ChunkStore

SEED = 0
PAIRS = 5
RATIO_ROWS = 2_000
QUESTIONS = ("first answer from nothing", "a further query", "20 queries together")
RANKS, ITERATIONS = (512, 2_048), (3, 5, 10, 20)
HEAD_SHAPE = (50_000, 512, 10)  # rows, features, classes


@dataclass(frozen=True)
class Figure:
    """One measured figure. ``target`` is what it should be, in words; ``met`` whether it is."""

    name: str
    value: float
    unit: str
    target: str
    met: bool | None
    how: str


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def paired(a: Callable[[], object], b: Callable[[], object], pairs: int = PAIRS) -> tuple[float, float, float]:
    """Return median seconds of a and of b, and the median of the ratios a / b, measured in turn after a warm-up."""
    a()
    b()
    times = [(timed(a), timed(b)) for _ in range(pairs)]
    ratio = statistics.median(first / second for first, second in times)
    return statistics.median(t for t, _ in times), statistics.median(t for _, t in times), ratio


def plain_pass(audit: Audit, n_rows: int | None = None) -> None:
    """Run the unchanged model once over the training rows."""
    rows = ModelRows(audit.model, audit.train)
    with torch.inference_mode():
        for start, stop in slices(n_rows or len(rows), scopes.BATCH):
            audit.model.objective.outputs(audit.model.module, rows.batch(start, stop))


def query_batches(audit: Audit, count: int) -> list[Batch]:
    """Return random test rows as queries, each asked about its own label."""
    chosen = np.random.default_rng(SEED).permutation(len(audit.test))[:count]
    return [audit.queries.batch(f"test:{audit.test_ids[p]}", int(audit.test.labels[p])) for p in chosen.tolist()]


def full_pass_ratio(audit: Audit) -> list[Figure]:
    """Measure a full pass for one query against a plain pass, on the same rows in memory."""
    rows = ModelRows(audit.model, audit.train)
    n_rows = min(RATIO_ROWS, len(rows))
    kept = [rows.batch(start, stop) for start, stop in slices(n_rows, scopes.BATCH)]
    network = FullNetwork(audit.model.module, audit.model.objective)
    with torch.inference_mode():
        base = torch.cat([network.outputs({}, batch) for batch in kept])
    update = take_steps(network, query_batches(audit, 1), step_options(method_named("full-sgd")))

    class Kept:
        def __len__(self) -> int:
            return n_rows

        def batch(self, start: int, stop: int) -> Batch:  # noqa: ARG002  # always whole batches
            return kept[start // scopes.BATCH]

    def plain() -> None:
        with torch.inference_mode():
            for batch in kept:
                audit.model.objective.outputs(audit.model.module, batch)

    _, _, ratio = paired(lambda: score_rows(network, Kept(), update, base, batch_size=scopes.BATCH), plain)
    how = f"{n_rows} rows decoded beforehand, median of {PAIRS} pairs"
    return [Figure("full pass per query ÷ plain pass", ratio, "×", "at most 1.15", ratio <= 1.15, how)]


def head_query() -> list[Figure]:
    """Measure a warm head query of a large head: step with the exact Fisher, then all scores."""
    n, d, c = HEAD_SHAPE
    generator = torch.Generator().manual_seed(SEED)
    features = torch.randn(n, d, generator=generator).relu()
    labels = torch.randint(c, (n,), generator=generator)
    network = HeadNetwork(
        Classification(),
        {"head.weight": torch.randn(c, d, generator=generator) / d**0.5, "head.bias": torch.zeros(c)},
    )
    logits = network.outputs({}, {FEATURES: features})
    fit = HeadFisherFit(network)
    state = fit.start()
    fit_s = timed(
        lambda: [fit.accumulate(state, {FEATURES: features[a:b], "label": labels[a:b]}) for a, b in slices(n, 2000)]
    )
    curvature = fit.finish(state)
    query = {FEATURES: features[:1] + 0.1, "label": labels[:1]}
    options = step_options(method_named("head"))

    def answer() -> Tensor:
        (update,) = take_steps(network, [query], options, curvature)
        weight, bias = update.changes["head.weight"], update.changes["head.bias"]
        return score_many(features, logits, labels, weight.unsqueeze(0), bias.unsqueeze(0))

    right = torch.randn(d, c, generator=generator)
    answer_s, product_s, ratio = paired(answer, lambda: features @ right, pairs=15)
    how = f"{n:,} × {d} × {c}, step and scores, median of 15 pairs; fitting the exact Fisher took {fit_s:.1f} s"
    return [
        Figure("head query, warm", 1000 * answer_s, "ms", "at most 100 ms", answer_s <= 0.1, how),
        Figure(
            "head query ÷ one matrix product",
            ratio,
            "×",
            "at most 5",
            ratio <= 5,
            f"{how}; product {1000 * product_s:.1f} ms",
        ),
    ]


def fresh_place(audit: Audit, folder: Path) -> Workplace:
    """Return a workplace with nothing cached."""
    context = JobContext(
        audit.project.root, ChunkStore(folder / "work", Binding("bench")), {}, on_report=lambda _progress: None
    )
    return Workplace(audit.model, audit.train, folder, context, Opened())


def tails() -> list[Method]:
    """Return every way to step on the tail, conjugate gradients by their number of iterations."""
    names = ("tail-sgd", "tail-adam", "tail-diagonal", "tail-ekfac")
    low_rank = [method_named("tail", rank=rank) for rank in RANKS]
    iterated = [method_named("tail-cg", iterations=count) for count in ITERATIONS]
    return [*map(method_named, names), *low_rank, method_named("tail-fisher"), *iterated]


def label_of(method: Method) -> str:
    """Return a method's name with the option that its cost depends on most."""
    option = {"cg": f", {method.iterations} iterations", "subspace": f", {method.rank:,} coordinates"}
    return method.name + option.get(method.step, "")


def first_answers(audit: Audit, methods: Sequence[Method], pass_s: float) -> list[Figure]:
    """Measure, for each method, the first answer from nothing, one more, and twenty together, in plain passes."""
    figures = []
    targets = {"head": (2.5, 0.01, None), "tail": (12.0, 3.0, 10.0)}
    for method in methods:
        with tempfile.TemporaryDirectory() as name:
            place, queries = fresh_place(audit, Path(name)), query_batches(audit, 22)
            seconds = []
            # conjugate gradients and the whole network read all rows for every query: 20 of them take half an hour
            groups = (queries[:1], queries[1:2], queries[2:])[
                : 2 if method.step == "cg" or method.scope == "full" else 3
            ]
            try:
                for group in groups:
                    begun = time.perf_counter()
                    score_group(place, method, group)
                    seconds.append(time.perf_counter() - begun)
            except ModelError as error:
                figures.append(Figure(f"{label_of(method)}: refused", float("nan"), "", "", None, error.title))
                continue
        how = f"{len(audit.train):,} rows, one pass {pass_s:.2f} s, method {method.name}"
        most = targets[method.scope] if method in map(method_named, targets) else (None, None, None)
        for what, spent, limit in zip(QUESTIONS, seconds, most, strict=False):
            value = spent / pass_s
            target = "" if limit is None else f"at most {limit:g}"
            figures.append(
                Figure(
                    f"{label_of(method)}: {what}",
                    value,
                    "passes",
                    target,
                    None if limit is None else value <= limit,
                    how,
                )
            )
    return figures


def cascade_overlap(audit: Audit, count: int = 50, top: int = 10) -> list[Figure]:
    """Measure how many of the full pass's strongest rows the cascade's shortlist re-scores among its own strongest."""
    cascade, full = method_named("cascade"), method_named("full")
    shared = []
    with tempfile.TemporaryDirectory() as name:
        place = fresh_place(audit, Path(name))
        queries = query_batches(audit, count)
        for start in range(0, count, 10):
            short = score_group(place, cascade, queries[start : start + 10])
            whole = score_group(place, full, queries[start : start + 10])
            for one, other in zip(short.queries, whole.queries, strict=True):
                assert one.table.score_full is not None
                found = np.argsort(-np.nan_to_num(one.table.score_full, nan=-np.inf))[:top]
                wanted = np.argsort(-other.table.score)[:top]
                shared.append(len(set(found.tolist()) & set(wanted.tolist())) / top)
            place.context.chunks.remove()  # keys of a pass are those of one group
            place = Workplace(
                place.model, place.train, place.audit_dir, fresh_place(audit, Path(name)).context, place.opened
            )
    value = float(np.mean(shared))
    how = f"top {top} of {count} random test rows, shortlist {cascade.shortlist:.0%}, step {full.step}"
    return [Figure("cascade: overlap with the full pass", value, "", "at least 0.9", value >= 0.9, how)]


def measure(audit: Audit, *, parts: Sequence[str]) -> list[Figure]:
    """Measure the parts asked for: pass, head, first, tails, cascade."""
    figures: list[Figure] = []
    if "pass" in parts:
        figures += full_pass_ratio(audit)
    if "head" in parts:
        figures += head_query()
    if "first" in parts or "tails" in parts:
        plain_pass(audit, min(RATIO_ROWS, len(audit.train)))  # warm-up
        pass_s = statistics.median(timed(lambda: plain_pass(audit)) for _ in range(3))
        methods = [method_named("head"), method_named("tail"), method_named("full")] if "first" in parts else []
        figures += first_answers(audit, methods + (tails() if "tails" in parts else []), pass_s)
    if "cascade" in parts:
        figures += cascade_overlap(audit)
    return figures
