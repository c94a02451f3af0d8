"""The removal check: which rows go, what is compared with what, and that helpful rows of the demo are helpful."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.context import AtOnce
from forwardinf_core.cli import main
from forwardinf_core.errors import AuditError, CancelledError, DataError, ModelError
from forwardinf_core.store.binding import Binding
from forwardinf_core.store.chunks import ChunkStore
from forwardinf_core.verification import removal
from forwardinf_core.verification.recipes import retraining_of
from forwardinf_core.verification.removal import RemovalOptions, check_removal, removal_options, stored_removal
from forwardinf_core.verification.removal_ladder import (
    KINDS,
    Change,
    Interval,
    Kind,
    changes,
    choose,
    ladder,
    verdict_of,
    whole_seeds,
)
from forwardinf_core.verification.retraining import Examples, Outcome, Retraining, Task


def change(kind: Kind, rises: list[float]) -> Change:
    values = np.array(rises)
    return Change(kind, values, -values, -values, 0.0)


def test_top_and_lowest_are_the_ends_and_random_rows_are_none_of_the_top() -> None:
    scores = np.arange(100, dtype=np.float32) - 50
    found = choose(scores, np.arange(100) % 3, k=5, seeds=4)
    assert found.top.tolist() == [95, 96, 97, 98, 99]
    assert found.lowest.tolist() == [0, 1, 2, 3, 4]
    assert all(len(rows) == 5 and not set(rows) & set(found.top) for rows in found.random)
    assert len({tuple(rows) for rows in found.random}) == 4


def test_rows_that_are_alike_have_the_labels_of_the_top() -> None:
    scores, labels = np.arange(100, dtype=np.float32), np.arange(100) % 3
    found = choose(scores, labels, k=7, seeds=3)
    for rows in found.alike:
        assert sorted(labels[rows]) == sorted(labels[found.top])
        assert not set(rows) & set(found.top)


@pytest.mark.parametrize("k", [0, 26, 1000])
def test_a_k_that_leaves_nothing_to_compare_is_refused(k: int) -> None:
    with pytest.raises(DataError, match="cannot be removed"):
        choose(np.arange(100, dtype=np.float32), np.zeros(100, np.int64), k=k, seeds=2)


def test_more_rows_than_helped_are_refused_with_how_many_there_are() -> None:
    scores = np.full(100, -1.0, dtype=np.float32)
    scores[:3] = 1
    with pytest.raises(DataError, match="Only 3 training rows helped"):
        choose(scores, np.zeros(100, np.int64), k=5, seeds=2)


def test_a_head_leaves_out_other_rows_for_each_seed_and_a_model_none() -> None:
    chosen = choose(np.arange(100, dtype=np.float32), np.arange(100) % 3, k=5, seeds=2)
    model, head = (ladder(100, chosen, 2, scope) for scope in ("model", "head"))  # type: ignore[arg-type]
    assert len(model["all", 0].subset) == 100
    assert set(model["top", 1].subset) == set(range(100)) - set(chosen.top)
    for seed in (0, 1):
        missing = set(range(100)) - set(head["all", seed].subset)
        assert len(missing) == 10
        assert not missing & set(chosen.top)
        assert set(head["top", seed].subset) == set(range(100)) - missing - set(chosen.top)
    assert not np.array_equal(head["all", 0].subset, head["all", 1].subset)


def test_the_interval_is_students_t() -> None:
    found = Interval.of(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    half = 2.7764451 * np.sqrt(2.5 / 5)
    assert found.mean == 3.0
    assert found.low == pytest.approx(3 - half)
    assert found.high == pytest.approx(3 + half)
    assert np.isnan(Interval.of(np.array([1.0])).low)


@pytest.mark.parametrize(
    ("top", "random", "expected"),
    [
        ([1.0, 1.1, 0.9], [0.0, 0.1, -0.1], "green"),
        ([1.0, 0.2, -0.3], [0.0, 0.1, -0.1], "amber"),
        ([0.0, 0.1, -0.1], [1.0, 1.1, 0.9], "red"),
        ([-0.1, -0.1, -0.1], [-1.0, -1.1, -0.9], "red"),
    ],
)
def test_the_verdict_asks_for_a_rise_that_is_surely_larger_than_a_random_one(
    top: list[float], random: list[float], expected: str
) -> None:
    found = {kind: change(kind, [0.0, 0.0, 0.0]) for kind in KINDS}
    assert verdict_of({**found, "top": change("top", top), "random": change("random", random)}) == expected


def outcome(loss: float) -> Outcome:
    """Return an outcome of two classes whose first has this loss."""
    chance = np.exp(-loss)
    return Outcome(torch.tensor([[np.log(chance), np.log1p(-chance)]]), torch.tensor([0]))


def test_a_failed_training_takes_its_seed_out_of_every_comparison() -> None:
    found = {(kind, seed): outcome(0.1 * (1 + seed)) for kind in ("all", *KINDS) for seed in range(3)}
    found |= {("top", seed): outcome(0.5) for seed in range(3)}
    found["random", 1] = Outcome(torch.full((1, 2), torch.nan), torch.tensor([0]))
    seeds = whole_seeds(found, 3)
    assert seeds == [0, 2]
    assert changes(found, seeds)["top"].rise == pytest.approx([0.4, 0.2])
    assert changes(found, seeds)["lowest"].rise == pytest.approx([0.0, 0.0])


def test_removing_helpful_rows_of_the_demo_raises_the_loss_more_than_random_rows(digits_audit: Audit) -> None:
    """For random queries: each holds, and typically by a wide margin."""
    positions = np.random.default_rng(0).choice(len(digits_audit.test_ids), 5, replace=False)
    found = [
        check_removal(digits_audit, removal_options(digits_audit, f"test:{digits_audit.test_ids[p]}", seeds=3))
        for p in positions.tolist()
    ]
    assert sum(one.verdict == "green" for one in found) >= 4
    top, random, lowest = (
        np.median([one.changes[kind].mean for one in found])
        for kind in ("top", "random", "lowest")  # type: ignore[index]
    )
    assert top > 5 * abs(random)
    assert lowest < 0


def test_a_check_is_read_back_as_it_was_made(digits_audit: Audit) -> None:
    options = removal_options(digits_audit, f"test:{digits_audit.test_ids[0]}", k=10, seeds=2)
    assert stored_removal(digits_audit, options) is None
    made, again = check_removal(digits_audit, options), check_removal(digits_audit, options)
    assert made.run_id == again.run_id
    assert made.rise == again.rise
    assert made.rise.low <= made.rise.mean <= made.rise.high
    assert stored_removal(digits_audit, replace(options, k=11)) is None
    assert len(made.top) == 10


@dataclass(frozen=True)
class ToyRecipe:
    """ "Trains" at once: outputs say how many of the first rows were kept. One kind of subset can be made to fail."""

    rows: Examples
    fails: Callable[[Task], bool] = lambda _task: False
    n_classes: int = 10

    def outputs(self, task: Task, watched: Examples) -> Tensor:
        if self.fails(task):
            raise ModelError("The loss is nan.")
        outputs = torch.zeros(len(watched), self.n_classes)
        outputs[:, 0] = len(task.subset) / len(self.rows) + 0.01 * task.seed
        return outputs

    def binding(self, kind: str, **more: Examples) -> Binding:
        return Binding(kind, {"rows": self.rows.fingerprint()})


def toy(audit: Audit, folder: Path, fails: Callable[[Task], bool] = lambda _task: False) -> Retraining:
    rows = Examples(torch.zeros(len(audit.train_ids), 1), torch.from_numpy(audit.train_labels.copy()))
    watched = Examples(torch.zeros(len(audit.train_ids) + len(audit.test_ids), 1), torch.zeros(1809, dtype=torch.int64))
    recipe = ToyRecipe(rows, fails)
    return Retraining(recipe, watched, ChunkStore(folder, recipe.binding("toy")))


class CancelsAfter(AtOnce):
    """A context whose person cancels after so many trainings."""

    def __init__(self, trainings: int) -> None:
        self.left = trainings

    def report(self, done: float, total: float, note: str = "") -> None:
        self.left -= 1
        if self.left < 0:
            raise CancelledError("The job was cancelled.")


def model_options(audit: Audit, place: int) -> RemovalOptions:
    query = f"test:{audit.test_ids[place]}"
    return removal_options(audit, query, method="head", target=0, k=10, scope="model", seeds=3)


def test_a_cancelled_ladder_goes_on_after_its_last_training(
    digits_audit: Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    retraining = toy(digits_audit, tmp_path)
    monkeypatch.setattr(removal, "retraining_of", lambda _audit, _report: retraining)
    monkeypatch.setattr(removal, "available_threads", lambda: 1)
    options = model_options(digits_audit, 30)
    with pytest.raises(CancelledError):
        removal.make_removal(digits_audit, options, CancelsAfter(6))
    assert 6 <= len(retraining.store.keys()) < 15
    trained = set(retraining.store.keys())
    removal.make_removal(digits_audit, options, AtOnce())
    assert trained < set(retraining.store.keys())
    assert len(retraining.store.keys()) == 15
    found = stored_removal(digits_audit, options)
    assert found is not None
    assert found.seeds == (0, 1, 2)


def test_a_training_that_fails_is_named_and_its_seed_left_out(
    digits_audit: Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(task: Task) -> bool:
        return task.seed == 1 and "most helpful" in task.name

    retraining = toy(digits_audit, tmp_path, fails)
    monkeypatch.setattr(removal, "retraining_of", lambda _audit, _report: retraining)
    monkeypatch.setattr(removal, "available_threads", lambda: 1)
    found = removal.removal_of(removal.make_removal(digits_audit, model_options(digits_audit, 31), AtOnce()))
    assert found.failed == ("without the most helpful rows, seed 1",)
    assert found.seeds == (0, 2)
    assert all(len(one.rise) == 2 for one in found.changes.values())


def test_a_projects_retraining_can_be_handed_to_other_processes(digits_audit: Audit) -> None:
    """The rows lie in a file; a tensor that maps one cannot be sent."""
    assert len(ForkingPickler.dumps(retraining_of(digits_audit))) > 0


def test_what_cannot_be_retrained_says_what_can(digits_audit: Audit) -> None:
    other = Audit(
        digits_audit.project,
        replace(digits_audit.model, module=torch.nn.Identity(), kind="adapter"),
        digits_audit.train,
        digits_audit.test,
    )
    with pytest.raises(ModelError, match="cannot be retrained here") as failure:
        removal_options(other, f"test:{digits_audit.test_ids[0]}", scope="model")
    assert "last layer" in failure.value.hint


@pytest.mark.parametrize("changed", [{"k": 10_000}, {"seeds": 1}, {"method": "magic"}, {"target": 77}])
def test_a_question_that_makes_no_sense_gets_one_sentence(digits_audit: Audit, changed: dict[str, object]) -> None:
    query = f"test:{digits_audit.test_ids[0]}"
    with pytest.raises(AuditError) as failure:
        check_removal(digits_audit, removal_options(digits_audit, query, **changed))  # type: ignore[arg-type]
    assert failure.value.title
    assert failure.value.hint


def test_the_command_prints_the_agreed_json(digits_audit: Audit, capsys: pytest.CaptureFixture[str]) -> None:
    query = f"test:{digits_audit.test_ids[2]}"
    capsys.readouterr()
    assert main(["verify", "demo:digits", "removal", "--query", query, "--k", "20", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"rise_top", "rise_random", "low", "high", "verdict", "k"} <= found.keys()
    assert found["low"] <= found["rise_top"] <= found["high"]
    assert found["rise_top"] > found["rise_random"]
    assert len(found["removed"]) == 20
    assert main(["verify", "demo:digits", "removal", "--query", query, "--scope", "moon"]) == 2
