"""Does this answer hold? The check of one query as a run: asked, made at once or as a job, kept and read back.

``removal_ladder`` says what is removed and how changes are read; here are the retrainings. The head is refitted on its
frozen features to its one optimum; the whole model is trained as ``fit`` trained it, where that is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from forwardinf_core.audits.attribution import answer
from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.context import AtOnce, Context
from forwardinf_core.audits.methods import Method, method_named
from forwardinf_core.audits.opening import fingerprints_of, load_audit
from forwardinf_core.audits.queries import TEST
from forwardinf_core.errors import DataError, ModelError
from forwardinf_core.influence.anatomy import NO_HEAD
from forwardinf_core.jobs import run as jobs
from forwardinf_core.jobs.context import JobContext
from forwardinf_core.jobs.execution import available_threads
from forwardinf_core.jobs.registry import job
from forwardinf_core.store.binding import Binding, Option
from forwardinf_core.store.runs import RunRecord, find_run, list_runs, open_run, save_run
from forwardinf_core.verification.checks import Check, Verdict
from forwardinf_core.verification.head_retraining import head_retraining_of
from forwardinf_core.verification.recipes import can_be_retrained, recipe_of, retraining_of
from forwardinf_core.verification.removal_ladder import (
    KINDS,
    RULE,
    Change,
    Interval,
    Kind,
    Scope,
    beyond,
    chance,
    changes,
    choose,
    default_k,
    ladder,
    verdict_of,
    whole_seeds,
)
from forwardinf_core.verification.retraining import Outcome, Task, failures

KIND = "removal"
VERSION = 2
SEEDS: dict[Scope, int] = {"head": 10, "model": 5}
MOST_SEEDS = 100
AT_ONCE = 3e8  # rows × weights × refits of a head that a person waits for: a few seconds on two cores


@dataclass(frozen=True)
class RemovalOptions:
    """The question: which query and class, whose ranking, how many rows, what is retrained, and how often."""

    query: str
    target: int
    method: Method
    k: int
    scope: Scope
    seeds: int


@dataclass(frozen=True)
class Removal:
    """A finished check. ``failed`` names trainings that ended without a network; their seeds are left out of all else.

    ``rise`` is how far the loss rises without the helpful rows, ``more`` by how much more than without random ones,
    ``alike`` by how much more than without random rows of the same labels. ``before`` and ``after`` are the mean
    probabilities of the class asked about, with all rows and without the helpful ones.
    """

    run_id: str
    query: str
    target: int
    method: str
    k: int
    scope: Scope
    seeds: tuple[int, ...]
    failed: tuple[str, ...]
    changes: dict[Kind, Change]
    rise: Interval
    more: Interval
    alike: Interval
    before: float
    after: float
    top: NDArray[np.int64]  # positions of the removed helpful rows, most helpful first
    verdict: Verdict

    @property
    def check(self) -> Check:
        """The verdict with its figure and sentence."""
        endings = {
            "green": "the answer holds",
            "amber": "it holds on average, but not surely",
            "red": "the answer does not hold",
        }
        meaning = (
            f"Retrained without its {self.k} most helpful rows, the query's loss changes by {self.rise.mean:+.2g}, "
            f"without {self.k} random rows by {self.changes['random'].mean:+.2g}: {endings[self.verdict]}."
        )
        return Check(KIND, "Does it hold?", self.verdict, self.rise.mean, f"{self.rise.mean:+.2g}", meaning, RULE)


def removal_options(
    audit: Audit,
    query: str,
    *,
    target: int | None = None,
    method: str | None = None,
    k: int | None = None,
    scope: Scope = "head",
    seeds: int | None = None,
) -> RemovalOptions:
    """Return the whole question. Raises AuditError with what is possible instead where it cannot be asked here."""
    if scope == "head" and audit.model.head is None:
        hint = "Check it on the whole model." if can_be_retrained(audit) else "This model cannot be retrained here."
        raise ModelError(NO_HEAD, hint=hint)
    if scope == "model":
        if not can_be_retrained(audit):
            recipe_of(audit)  # raises the sentence that says what is possible instead
        if not query.startswith(TEST):
            raise DataError(
                "An uploaded image cannot be followed through the training of the whole model.",
                hint="Check it on the head, or ask about a test row.",
            )
    best = "tail" if audit.model.tail is not None else "head" if audit.model.head is not None else "full"
    chosen = method_named(method or ("head" if scope == "head" else best))
    count = SEEDS[scope] if seeds is None else seeds
    if not 2 <= count <= MOST_SEEDS:
        raise DataError(f"{count} seeds give no interval.", hint=f"Ask for 2 to {MOST_SEEDS}.")
    k = default_k(len(audit.train_ids)) if k is None else k
    return RemovalOptions(query, audit.target_of(query, target), chosen, k, scope, count)


def stored_removal(audit: Audit, options: RemovalOptions) -> Removal | None:
    """Return the check where it has been made."""
    record = find_run(audit.project, KIND, _binding(audit, options).key())
    return None if record is None else removal_of(record)


def open_removal(audit: Audit, run_id: str) -> Removal:
    """Return a finished check by its id. Raises RunNotFoundError."""
    return removal_of(open_run(audit.project, run_id))


def list_removals(audit: Audit) -> list[Removal]:
    """Return the finished checks of this model on these rows, newest first."""
    prints = cast("dict[str, Option]", fingerprints_of(audit.folder, None))
    return [removal_of(run) for run in list_runs(audit.project, KIND) if run.options.get("fingerprints") == prints]


def is_instant(audit: Audit, options: RemovalOptions) -> bool:
    """Say whether the check takes seconds, so that a person can wait for it."""
    if options.scope != "head" or not audit.is_quick(options.method):
        return False
    features = audit.workplace(AtOnce()).scope("head").rows.batch(0, 1)["features"].shape[1]
    return len(audit.train_ids) * features * len(audit.classes) * options.seeds * (len(KINDS) + 1) <= AT_ONCE


def trainings_of(options: RemovalOptions) -> int:
    """Return how many trainings a check takes, of which some may be there."""
    return options.seeds * (len(KINDS) + 1)


def check_removal(audit: Audit, options: RemovalOptions) -> Removal:
    """Return an instant check, read back or made here and now."""
    return stored_removal(audit, options) or removal_of(make_removal(audit, options, AtOnce()))


def start_removal(audit: Audit, options: RemovalOptions) -> int:
    """Queue the check and return the job's id."""
    return jobs.submit(KIND, audit.folder, options)


@job(KIND, version=VERSION, fingerprints=fingerprints_of)
def removal(context: JobContext, options: RemovalOptions) -> dict[str, Option]:
    """Make the check. Cancelled and retried, it goes on after the last finished training. Returns the id of the run."""
    audit = load_audit(context.project)
    known = find_run(audit.project, KIND, _binding(audit, options).key())
    return {"run": (known or make_removal(audit, options, context)).id}


def make_removal(audit: Audit, options: RemovalOptions, context: Context) -> RunRecord:
    """Score the rows where that is not stored, retrain without them, and keep what it did to the query."""
    (scored,) = answer(audit, [options.query], options.method, options.target, context)
    scores = scored.frame("scores")["score"].to_numpy(np.float32)
    chosen = choose(scores, audit.train_labels, options.k, options.seeds)
    tasks = ladder(len(scores), chosen, options.seeds, options.scope)
    outcomes = _retrained(audit, options, tasks, context)
    seeds = whole_seeds(outcomes, options.seeds)
    if len(seeds) < 2:
        raise ModelError(
            f"Only {len(seeds)} of {options.seeds} seeds could be retrained without a failure.",
            hint="An interval needs two. A smaller learning rate, or checking on the head, may help.",
        )
    order = np.argsort(-scores, kind="stable")[: options.k]
    kept = [("all", seed, outcomes["all", seed]) for seed in seeds]
    kept += [(kind, seed, outcomes[kind, seed]) for kind in KINDS for seed in seeds]
    return save_run(
        audit.project,
        KIND,
        _binding(audit, options).key(),
        options={
            **{name: value for name, value in _record(options).items() if name != "method"},
            "method": cast("dict[str, Option]", options.method.options()),
            "fingerprints": cast("dict[str, Option]", fingerprints_of(audit.folder, None)),
        },
        summary={"failed": list(failures(list(tasks.values()), [outcomes[name] for name in tasks]))},
        frames={"outcomes": _frame(kept)},
        tensors={
            "rows": {"top": torch.from_numpy(order.astype(np.int64))},
            "outputs": {f"{kind}-{seed}": outcome.outputs for kind, seed, outcome in kept},
        },
    )


def removal_of(record: RunRecord) -> Removal:
    """Return the check that a run holds."""
    said = record.options
    target, scope = cast("int", said["target"]), cast("Scope", said["scope"])
    outputs = record.tensors("outputs")
    label = torch.tensor([target])
    outcomes = {_named(name): Outcome(value, label) for name, value in outputs.items()}
    seeds = sorted({seed for _, seed in outcomes})
    found = changes(outcomes, seeds)
    return Removal(
        run_id=record.id,
        query=str(said["query"]),
        target=target,
        method=str(cast("dict[str, Option]", said["method"])["name"]),
        k=cast("int", said["k"]),
        scope=scope,
        seeds=tuple(seeds),
        failed=tuple(str(name) for name in cast("list[Option]", record.summary["failed"])),
        changes=found,
        rise=Interval.of(found["top"].rise),
        more=beyond(found["top"], found["random"]),
        alike=beyond(found["top"], found["alike"]),
        before=float(np.mean([chance(outcomes["all", seed]) for seed in seeds])),
        after=float(np.mean([chance(outcomes["top", seed]) for seed in seeds])),
        top=record.tensors("rows")["top"].numpy(),
        verdict=verdict_of(found),
    )


def _retrained(
    audit: Audit, options: RemovalOptions, tasks: Mapping[tuple[str, int], Task], context: Context
) -> dict[tuple[str, int], Outcome]:
    """Return what each retrained model says of the query, judged by the class asked about."""

    def report(fraction: float, note: str) -> None:
        context.report(fraction * len(tasks), len(tasks), note)

    if options.scope == "head":
        refits = head_retraining_of(audit, [options.query], [options.target], context)
        return dict(zip(tasks, refits.outcomes(list(tasks.values()), report), strict=True))
    retraining = retraining_of(audit, report)
    place = len(audit.train_ids) + audit.test.position(options.query.removeprefix(TEST))
    found = retraining.outcomes(list(tasks.values()), workers=available_threads(), report=report)
    return {name: outcome.at([place], [options.target]) for name, outcome in zip(tasks, found, strict=True)}


def _frame(kept: list[tuple[str, int, Outcome]]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "kind": [kind for kind, _, _ in kept],
            "seed": [seed for _, seed, _ in kept],
            "loss": [float(outcome.losses[0]) for _, _, outcome in kept],
            "log_odds": [float(outcome.margins[0]) for _, _, outcome in kept],
            "probability": [chance(outcome) for _, _, outcome in kept],
            "prediction": [int(outcome.outputs.argmax()) for _, _, outcome in kept],
        }
    )


def _named(name: str) -> tuple[str, int]:
    kind, _, seed = name.rpartition("-")
    return kind, int(seed)


def _record(options: RemovalOptions) -> dict[str, Option]:
    return cast("dict[str, Option]", asdict(options))


def _binding(audit: Audit, options: RemovalOptions) -> Binding:
    split, _, key = options.query.partition(":")
    prints = dict(fingerprints_of(audit.folder, options))
    prints["query"] = f"{audit.test.fingerprint}:{key}" if split == "test" else key
    return Binding(KIND, prints, _record(options), VERSION)
