"""What cleaning does to the model: retrained on the rows as they are, as reviewed, and without the top k unreviewed.

The head alone is refitted to its one optimum on the features of the project's model (seconds; those features were
learnt with the labels as they are). The whole model is trained anew as ``fit`` trains it, three seeds an arm, as a job
whose networks are kept, so that a stopped comparison goes on and a second one reuses the first arm. Test accuracy has
a 95% interval by resampling test rows, and seeds where there are several; differences are resampled in pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.context import AtOnce, Context
from forwardinf_core.audits.opening import fingerprints_of, load_audit
from forwardinf_core.audits.scopes import BATCH
from forwardinf_core.datasets.rows import UNLABELLED
from forwardinf_core.errors import DataError, ModelError
from forwardinf_core.influence.head import FEATURES
from forwardinf_core.jobs import run as jobs
from forwardinf_core.jobs.context import JobContext
from forwardinf_core.jobs.registry import job
from forwardinf_core.models.rows import ModelRows
from forwardinf_core.store.binding import Binding, Option
from forwardinf_core.store.runs import RunRecord, find_run, save_run
from forwardinf_core.verification.head_retraining import HeadRetraining
from forwardinf_core.verification.recipes import can_be_retrained, retraining_of
from forwardinf_core.verification.retraining import Examples, Outcome, Task, failures

KIND = "review-effect"
VERSION = 1
SEEDS = (0, 1, 2)
RESAMPLINGS = 2000
AT_ONCE = 3e8  # rows × weights × refits of a head that a person waits for: a few seconds on two cores
ORIGINAL, CLEANED, TOP = ARMS = ("as it is", "reviewed", "top dropped")

Part = Literal["head", "model"]


@dataclass(frozen=True)
class EffectOptions:
    """What to compare. Positions are those of the training rows; ``top`` are the rows dropped without review."""

    part: Part
    relabel: tuple[tuple[int, int], ...]  # position, new label
    drop: tuple[int, ...]
    top: tuple[int, ...]


@dataclass(frozen=True)
class Arm:
    """One training set: rows in it, test accuracy with its interval, and by seed (one for the head)."""

    name: str
    rows: int
    accuracy: float
    low: float
    high: float
    by_seed: tuple[float, ...]


@dataclass(frozen=True)
class Gain:
    """Change of test accuracy against the rows as they are, with its interval."""

    name: str
    change: float
    low: float
    high: float


@dataclass(frozen=True)
class ClassChange:
    """Share of right test rows of one class, in each arm in the order of ARMS."""

    name: str
    test_rows: int
    shares: tuple[float, ...]


@dataclass(frozen=True)
class Effect:
    """A finished comparison. ``failed`` names trainings that diverged; they are left out."""

    run_id: str
    part: Part
    test_rows: int
    seeds: tuple[int, ...]
    arms: tuple[Arm, ...]
    gains: tuple[Gain, ...]
    classes: tuple[ClassChange, ...]
    failed: tuple[str, ...]


def options_for(
    part: Part, relabel: Mapping[int, int], drop: Sequence[int] | frozenset[int], top: Sequence[int]
) -> EffectOptions:
    """Return the options of a comparison. Raises DataError where nothing would change."""
    if not relabel and not drop:
        raise DataError("Nothing is relabelled or dropped yet, so there is no effect to see.", hint="Decide some rows.")
    gone = set(drop)
    kept = tuple(sorted((int(at), int(code)) for at, code in relabel.items() if at not in gone))
    return EffectOptions(part, kept, tuple(sorted(map(int, gone))), tuple(sorted(map(int, top))))


def find_effect(audit: Audit, options: EffectOptions) -> Effect | None:
    """Return a stored comparison, or None."""
    record = find_run(audit.project, KIND, _binding(audit, options).key())
    return None if record is None else _opened(record)


def start_effect(audit: Audit, options: EffectOptions) -> int:
    """Hand the comparison to the worker and return the id of its job."""
    return jobs.submit(KIND, audit.project.root, options)


def effect_now(audit: Audit, options: EffectOptions) -> Effect:
    """Return the comparison, read back where it is stored, else made here and now: seconds for the head."""
    found = find_effect(audit, options)
    return found if found is not None else _opened(_compared(audit, options, AtOnce()))


def is_quick(audit: Audit, options: EffectOptions) -> bool:
    """Say whether the comparison takes seconds, so that a person can wait for it."""
    if options.part != "head" or not audit.is_ready("head"):
        return False
    features = audit.workplace(AtOnce()).scope("head").rows.batch(0, 1)[FEATURES].shape[1]
    return len(audit.train) * int(features) * len(audit.classes) * len(ARMS) <= AT_ONCE


def can_retrain(audit: Audit, part: Part) -> bool:
    """Say whether this part of the project's model can be trained again here."""
    return audit.model.head is not None if part == "head" else can_be_retrained(audit)


@job(KIND, version=VERSION, fingerprints=fingerprints_of)
def compare(context: JobContext, options: EffectOptions) -> dict[str, Option]:
    """Train all arms and keep the comparison; returns the id of the run."""
    audit = load_audit(context.project)
    known = find_run(audit.project, KIND, _binding(audit, options).key())
    return {"run": (known or _compared(audit, options, context)).id}


def _binding(audit: Audit, options: EffectOptions) -> Binding:
    rows = {"model": audit.model.fingerprint, "train": audit.train.fingerprint, "test": audit.test.fingerprint}
    return Binding(KIND, rows, cast("dict[str, Option]", asdict(options)), VERSION)


def tasks_of(options: EffectOptions, n_rows: int, seeds: Sequence[int]) -> list[Task]:
    """Return the trainings, arm by arm, each with all seeds."""
    dropped: dict[str, Sequence[int]] = {ORIGINAL: (), CLEANED: options.drop, TOP: options.top}
    made = []
    for arm in ARMS:
        labels = dict(options.relabel) if arm == CLEANED else {}
        for seed in seeds:
            whole = Task.without(n_rows, dropped[arm], seed, name=f"rows {arm}")
            made.append(Task(whole.subset, seed, labels, whole.name))
    return made


def _compared(audit: Audit, options: EffectOptions, context: Context) -> RunRecord:
    labelled = np.flatnonzero(audit.test.labels != UNLABELLED)
    if not len(labelled):
        raise DataError("No test row has a label, so accuracy cannot be measured.", hint="Give the test rows labels.")
    seeds = (0,) if options.part == "head" else SEEDS
    tasks = tasks_of(options, len(audit.train), seeds)
    if options.part == "head":
        outcomes = [outcome.at(labelled) for outcome in head_outcomes(audit, tasks, context)]
    else:
        retraining = retraining_of(audit, lambda share, note: context.report(share, 1.0, note))
        found = retraining.outcomes(tasks, report=lambda share, note: context.report(share, 1.0, note))
        outcomes = [outcome.at(labelled + len(audit.train)) for outcome in found]
    return _save(audit, options, outcomes, seeds, failures(tasks, outcomes))


def head_outcomes(audit: Audit, tasks: Sequence[Task], context: Context) -> list[Outcome]:
    """Return what the head refitted for each task says of all test rows. Raises ModelError without a linear head."""
    if audit.model.head is None:
        raise ModelError("This model has no linear last layer to refit.", hint="Compare the whole model instead.")
    scope = audit.workplace(context).scope("head")
    features = scope.rows.batch(0, len(scope.rows))[FEATURES]
    rows = ModelRows(audit.model, audit.test, needs_labels=False)
    with torch.inference_mode():
        parts = [
            scope.embed(rows.batch(start, min(start + BATCH, len(rows))))[FEATURES]
            for start in range(0, len(rows), BATCH)
        ]
    train = Examples(features.clone(), torch.from_numpy(audit.train_labels.copy()))
    test = Examples(torch.cat(parts).clone(), torch.from_numpy(audit.test.labels.copy()))
    return HeadRetraining(train, test, len(audit.classes)).outcomes(tasks)


def _save(
    audit: Audit, options: EffectOptions, outcomes: Sequence[Outcome], seeds: Sequence[int], failed: tuple[str, ...]
) -> RunRecord:
    labels = outcomes[0].labels.numpy()
    right = np.stack([_right(outcome) for outcome in outcomes]).reshape(len(ARMS), len(seeds), len(labels))
    rows = [len(task.subset) for task in tasks_of(options, len(audit.train), seeds)[:: len(seeds)]]
    arms, gains = measured(right)
    table = pd.DataFrame(
        [{"name": name, "rows": count, **values} for name, count, values in zip(ARMS, rows, arms, strict=True)]
    )
    for at, seed in enumerate(seeds):
        table[f"seed_{seed}"] = right[:, at].mean(1)
    classes = pd.DataFrame({"name": list(audit.classes)})
    classes["test_rows"] = np.bincount(labels, minlength=len(audit.classes))
    share = np.nanmean(right, axis=1)  # (arms, n_test)
    for at, name in enumerate(ARMS):
        sums = np.bincount(labels, weights=share[at], minlength=len(audit.classes))
        classes[name] = sums / np.maximum(classes["test_rows"], 1)
    return save_run(
        audit.project,
        KIND,
        _binding(audit, options).key(),
        options=cast("dict[str, Option]", asdict(options)),
        summary={"test_rows": len(labels), "seeds": list(seeds), "failed": list(failed)},
        frames={"arms": table, "gains": pd.DataFrame(gains), "classes": classes},
    )


def _right(outcome: Outcome) -> NDArray[np.float64]:
    """Return 1 for each watched row that is right, else 0; NaN throughout where training failed."""
    if outcome.failed:
        return np.full(len(outcome.labels), np.nan)
    found: NDArray[np.float64] = (outcome.outputs.argmax(1) == outcome.labels).double().numpy()
    return found


def measured(right: NDArray[np.float64]) -> tuple[list[dict[str, float]], list[dict[str, str | float]]]:
    """Return accuracy of each arm and gain of each against the first, with 95% intervals.

    ``right`` (arms, seeds, n_test), NaN for failed trainings. Test rows are drawn with replacement, and seeds where
    there are several, alike for all arms.
    """
    generator = np.random.default_rng(0)
    _, n_seeds, n_test = right.shape
    drawn = np.empty((RESAMPLINGS, len(right)))
    for turn in range(RESAMPLINGS):
        seeds = generator.integers(n_seeds, size=n_seeds)
        weights = np.bincount(generator.integers(n_test, size=n_test), minlength=n_test) / n_test
        found = (right @ weights)[:, seeds]
        there = np.isfinite(found)  # a draw may hold failed trainings alone: it then says nothing
        sums, counts = np.where(there, found, 0.0).sum(1), there.sum(1)
        drawn[turn] = np.divide(sums, counts, out=np.full(len(right), np.nan), where=counts > 0)
    value = np.nanmean(right.mean(2), axis=1)
    low, high = np.nanpercentile(drawn, [2.5, 97.5], axis=0)
    arms = [{"accuracy": float(value[at]), "low": float(low[at]), "high": float(high[at])} for at in range(len(right))]
    gains: list[dict[str, str | float]] = []
    for at in range(1, len(right)):
        ends = np.nanpercentile(drawn[:, at] - drawn[:, 0], [2.5, 97.5])
        change = float(value[at] - value[0])
        gains.append({"name": ARMS[at], "change": change, "low": float(ends[0]), "high": float(ends[1])})
    return arms, gains


def _opened(record: RunRecord) -> Effect:
    seeds = tuple(int(seed) for seed in cast("list[int]", record.summary["seeds"]))
    arms = tuple(
        Arm(
            str(row["name"]),
            int(row["rows"]),
            float(row["accuracy"]),
            float(row["low"]),
            float(row["high"]),
            tuple(float(row[f"seed_{seed}"]) for seed in seeds),
        )
        for row in record.frame("arms").to_dict("records")
    )
    gains = tuple(Gain(**row) for row in record.frame("gains").to_dict("records"))
    classes = tuple(
        ClassChange(str(row["name"]), int(row["test_rows"]), tuple(float(row[arm]) for arm in ARMS))
        for row in record.frame("classes").to_dict("records")
    )
    return Effect(
        run_id=record.id,
        part=cast("Part", record.options["part"]),
        test_rows=int(cast("int", record.summary["test_rows"])),
        seeds=seeds,
        arms=arms,
        gains=gains,
        classes=classes,
        failed=tuple(str(one) for one in cast("list[str]", record.summary["failed"])),
    )
