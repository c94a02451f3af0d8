r"""Canaries: rows whose answer is known, planted into a copy of the training rows; does the method find them?

Copies of test rows, with the right label, must be among the rows that helped their test row. Wrong labels must be among
the rows that hurt the test set as a whole. The copy is trained anew (the head on the model's features, or the whole
built-in network), and scored by the same code as any question of a person.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.context import AtOnce, Context
from forwardinf_core.audits.methods import method_named
from forwardinf_core.audits.opening import fingerprints_of, load_audit
from forwardinf_core.audits.preparation import Opened, Workplace
from forwardinf_core.audits.scoring import score_group
from forwardinf_core.datasets.rows import UNLABELLED
from forwardinf_core.errors import ModelError
from forwardinf_core.influence.anatomy import NO_HEAD, NO_HEAD_HINT
from forwardinf_core.influence.head import FEATURES, HeadNetwork, fits_dense
from forwardinf_core.influence.objective import Batch
from forwardinf_core.jobs import run as jobs
from forwardinf_core.jobs.context import JobContext
from forwardinf_core.jobs.registry import job
from forwardinf_core.models.audit_model import AuditModel
from forwardinf_core.store.binding import Binding, Option
from forwardinf_core.store.chunks import ChunkStore, digest_of
from forwardinf_core.store.runs import RunRecord, find_run, save_run
from forwardinf_core.verification.checks import Check, at_least
from forwardinf_core.verification.controls import (
    ControlOptions,
    checks_of,
    control_queries,
    make_controls,
    steady,
    stored_controls,
)
from forwardinf_core.verification.head_retraining import RELATIVE_PENALTY
from forwardinf_core.verification.head_scores import as_rows, embedded, head_of, head_scores, own_effects
from forwardinf_core.verification.image_recipe import ImageRecipe
from forwardinf_core.verification.logistic import LogisticRows
from forwardinf_core.verification.planting import Plan, PlantedRows, plan
from forwardinf_core.verification.recipes import can_be_retrained, examples_of, recipe_of
from forwardinf_core.verification.retraining import Examples, Task
from forwardinf_core.verification.text_recipe import TextRecipe

KIND = "canaries"
VERSION = 2
JUDGES = 500  # test rows that say together which rows hurt
COPY_SHARE, WRONG_SHARE = 0.05, 0.1  # of the rows: how far down a person looks
NEAREST = 5  # rows among which a copy must be where each row's effect is divided by its effect on itself
AT_ONCE = 1e8  # rows × weights of a head that a person waits for
Scope = Literal["head", "model"]
Scores = NDArray[np.float32]


@dataclass(frozen=True)
class CanaryOptions:
    """What is trained on the copy, how much is planted, and by which method it is looked for."""

    scope: Scope = "head"
    copies: int = 25
    wrong_share: float = 0.05
    seed: int = 0
    method: str = ""  # "" = head for the head, else the best this model has


def canary_options(audit: Audit, scope: Scope = "head", *, seed: int = 0, method: str = "") -> CanaryOptions:
    """Return the options with the method named. Raises ModelError with what is possible instead."""
    if audit.model.head is None:
        raise ModelError(NO_HEAD, hint=NO_HEAD_HINT)
    if scope == "model" and not can_be_retrained(audit):
        recipe_of(audit)  # raises the sentence that says what is possible instead
    best = "head" if scope == "head" or audit.model.tail is None else "tail"
    return CanaryOptions(scope, seed=seed, method=method_named(method or best).name)


def stored_canaries(audit: Audit, options: CanaryOptions) -> tuple[Check, ...] | None:
    """Return canaries and controls where they have been made for this model and these rows."""
    record = find_run(audit.project, KIND, _binding(audit, options).key())
    return None if record is None else checks_of(record)


def is_instant(audit: Audit, options: CanaryOptions) -> bool:
    """Say whether it takes seconds, so that a person can wait for it."""
    if options.scope != "head" or not audit.is_quick(method_named(options.method)):
        return False
    return head_of(audit.workplace(AtOnce()))[1].numel() * len(audit.classes) <= AT_ONCE


def check_canaries(audit: Audit, options: CanaryOptions) -> tuple[Check, ...]:
    """Return instant canaries, read back or made here and now."""
    return checks_of(make_canaries(audit, options, AtOnce()))


def start_canaries(audit: Audit, options: CanaryOptions) -> int:
    """Queue the work and return the job's id."""
    return jobs.submit(KIND, audit.folder, options)


@job(KIND, version=VERSION, fingerprints=fingerprints_of)
def plant_canaries(context: JobContext, options: CanaryOptions) -> dict[str, Option]:
    """Plant, train, score and judge. Returns the id of the run."""
    return {"run": make_canaries(load_audit(context.project), options, context).id}


def make_canaries(audit: Audit, options: CanaryOptions, context: Context) -> RunRecord:
    """Plant, train, score and judge, and keep the checks as a run: canaries first, then the method's controls."""
    known = find_run(audit.project, KIND, _binding(audit, options).key())
    if known is not None:
        return known
    audit.workplace(context).scope("head")  # what is planted depends on what the model says of the training rows
    planted = plan(audit, copies=options.copies, wrong_share=options.wrong_share, seed=options.seed)
    rows = PlantedRows(audit.train, audit.test, planted)
    if options.scope == "head":
        found = head_canaries(audit, rows, planted, options, context)
    else:
        found = model_canaries(audit, rows, planted, options, context)
    asked = ControlOptions(options.method)
    controls = stored_controls(audit, asked) or checks_of(make_controls(audit, asked, context))
    return save_run(
        audit.project,
        KIND,
        _binding(audit, options).key(),
        options={"scope": options.scope, "method": options.method, "seed": options.seed},
        summary={
            "checks": [check.record() for check in (*found, *controls)],
            "planted_copies": [audit.test_ids[p] for p in planted.copies.tolist()],
            "planted_wrong": [audit.train_ids[p] for p in planted.wrong.tolist()],
        },
    )


def head_canaries(
    audit: Audit, rows: PlantedRows, planted: Plan, options: CanaryOptions, context: Context
) -> list[Check]:
    """Refit the head on the copy and judge its scores."""
    place, method = audit.workplace(context), method_named(options.method)
    own, features = head_of(place)
    queries = embedded(place, [_query(audit, p) for p in planted.copies.tolist()])
    judges = embedded(place, [_query(audit, p) for p in _judges(audit, planted, options)])
    every = torch.cat([features, *(query[FEATURES] for query in queries)])
    network = refitted(own, every, rows.labels)
    table = as_rows(every, rows.labels)
    scores = head_scores(network, table, [*queries, _joined(judges)], method)
    found = judged(scores, planted, len(audit.train_ids))
    return [*found, relative_copies(scores, own_effects(network, table))] if fits_dense(network) else found


def refitted(own: HeadNetwork, features: torch.Tensor, labels: NDArray[np.int64]) -> HeadNetwork:
    """Return the head at its optimum on these rows."""
    l2 = RELATIVE_PENALTY * float(features.double().square().mean())
    classes = own.parameters[own.names.weight].shape[0]
    layer = LogisticRows(features, torch.from_numpy(labels.copy()), n_classes=classes, l2=l2).fit.float()
    return HeadNetwork(own.objective, {"weight": layer[:, :-1].contiguous(), "bias": layer[:, -1].contiguous()})


def model_canaries(
    audit: Audit, rows: PlantedRows, planted: Plan, options: CanaryOptions, context: Context
) -> list[Check]:
    """Train the whole network on the copy, twice from different seeds, and judge the scores of the first."""
    recipe = recipe_of(audit)
    method = method_named(options.method)
    every = Examples.joined(recipe.rows, examples_of(audit, audit.test).at(planted.copies))
    copied = replace(recipe, rows=Examples(every.inputs, torch.from_numpy(rows.labels.copy())))
    queries = [_query(audit, p) for p in planted.copies.tolist()]
    judges = _joined([_query(audit, p) for p in _judges(audit, planted, options)])
    others = [_query(audit, p) for p in control_queries(audit, ControlOptions()).tolist()]
    tables = []
    folder = audit.project.audit_dir / "work" / f"{KIND}-{_binding(audit, options).key()[:16]}"
    for number in range(2):
        context.report(number, 2, f"Training network {number + 1} of 2 on the copy")
        model = _trained(audit.model, copied, options.seed + number, context.chunks)
        place = Workplace(model, rows, folder, context, Opened())
        asked = [*queries, judges, *others] if number == 0 else others
        tables.append(np.stack([one.table.score for one in score_group(place, method, asked).queries]))
    shutil.rmtree(folder, ignore_errors=True)  # caches of networks that nobody asks again
    first, again = tables[0][len(queries) + 1 :], tables[1]
    return [*judged(tables[0][: len(queries) + 1], planted, len(audit.train_ids)), steady("seed", first, [again])]


def _trained(model: AuditModel, recipe: ImageRecipe | TextRecipe, seed: int, chunks: ChunkStore) -> AuditModel:
    """Return the model with a network trained on the copy in its place; kept, so that a stopped job goes on."""
    name = f"network-{seed}"
    weights = chunks.get(name)
    if weights is None:
        trained = recipe.network(Task.without(len(recipe.rows), [], seed))
        weights = {key: value.contiguous() for key, value in trained.state_dict().items()}
        chunks.put(name, weights)
    module = recipe.fresh()
    module.load_state_dict(weights)
    return replace(model, module=module.eval(), fingerprint=digest_of(weights))


def judged(scores: Scores, planted: Plan, n_train: int) -> list[Check]:
    """Return both canaries. ``scores``: one line a copied test row, and last that of the judges together."""
    n_rows = scores.shape[1]
    k_copies, k_wrong = max(1, round(COPY_SHARE * n_rows)), max(len(planted.wrong), round(WRONG_SHARE * n_rows))
    ranks = copy_ranks(scores[:-1], n_train)
    recall = float((ranks < k_copies).mean())
    hurt = np.argsort(scores[-1], kind="stable")[:k_wrong]
    found = float(np.isin(planted.wrong, hurt).mean())
    return [
        Check(
            "copies",
            "Planted copies",
            at_least(recall, 0.8, 0.5),
            recall,
            f"{100 * recall:.0f}% found",
            f"Of {len(ranks)} planted copies of test rows, so many are among the {k_copies} rows that helped their "
            f"test row most; by chance {100 * k_copies / n_rows:.0f}% would be. Their middle rank is "
            f"{int(np.median(ranks)) + 1}.",
            f"Green: at least 80% among the first {100 * COPY_SHARE:.0f}% of the rows. Amber: at least 50%. Red: less. "
            "A copy that is fitted teaches little, so other rows of its class may be ahead of it.",
            recall=recall,
            k=k_copies,
        ),
        Check(
            "wrong-labels",
            "Planted wrong labels",
            at_least(found, 0.8, 0.5),
            found,
            f"{100 * found:.0f}% found",
            f"Of {len(planted.wrong)} planted wrong labels, so many are among the {k_wrong} rows that hurt the test "
            f"rows most; by chance {100 * k_wrong / n_rows:.0f}% would be.",
            f"Green: at least 80% among the first {100 * WRONG_SHARE:.0f}% of the rows. Amber: at least 50%. "
            "Red: less.",
            recall=found,
            k=k_wrong,
        ),
    ]


def relative_copies(scores: Scores, own: NDArray[np.float32]) -> Check:
    """Judge the copies where each row's effect is divided by the root of its effect on itself."""
    n_train = scores.shape[1] - (len(scores) - 1)
    sizes = np.sqrt(np.maximum(own, np.finfo(np.float32).tiny)).astype(np.float32)
    ranks = copy_ranks(scores[:-1] / sizes, n_train)
    recall = float((ranks < NEAREST).mean())
    return Check(
        "copies-relative",
        "Planted copies, for their size",
        at_least(recall, 0.9, 0.7),
        recall,
        f"{100 * recall:.0f}% found",
        f"The same copies, each row's effect divided by how strongly it acts on itself: so many are among the first "
        f"{NEAREST}. This is the measure for finding copies; the plain effect says what moved the model.",
        "Green: at least 90%. Amber: at least 70%. Red: less, for then the arithmetic is not to be trusted.",
        recall=recall,
        k=NEAREST,
    )


def copy_ranks(scores: Scores, n_train: int) -> NDArray[np.int64]:
    """Return how many rows are ahead of each query's own copy; line j belongs to the row n_train + j."""
    own = scores[np.arange(len(scores)), n_train + np.arange(len(scores))]
    return np.asarray((scores > own[:, None]).sum(1), dtype=np.int64)


def _judges(audit: Audit, planted: Plan, options: CanaryOptions) -> list[int]:
    """Return test rows (positions) that judge together: random labelled ones without a planted copy."""
    labelled = np.setdiff1d(np.flatnonzero(audit.test.labels != UNLABELLED), planted.copies)
    draw = np.random.default_rng([options.seed, 1])
    chosen: list[int] = np.sort(draw.choice(labelled, min(JUDGES, len(labelled)), replace=False)).tolist()
    return chosen


def _query(audit: Audit, position: int) -> Batch:
    return audit.queries.batch(f"test:{audit.test_ids[position]}", int(audit.test.labels[position]))


def _joined(batches: Sequence[Batch]) -> Batch:
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def _binding(audit: Audit, options: CanaryOptions) -> Binding:
    record: dict[str, Option] = {
        "scope": options.scope,
        "copies": options.copies,
        "wrong_share": options.wrong_share,
        "seed": options.seed,
        "method": options.method,
    }
    return Binding(KIND, fingerprints_of(audit.folder, options), record, VERSION)
