"""Retraining: the same task has one outcome, stored once; a failure is named, a stop loses nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from forwardinf_core.errors import CancelledError
from forwardinf_core.models.baseline import BaselineConfig
from forwardinf_core.models.training import TrainingOptions
from forwardinf_core.store.chunks import ChunkStore
from forwardinf_core.verification.image_recipe import ImageRecipe
from forwardinf_core.verification.retraining import Examples, Retraining, Task, failures, half_subsets


@pytest.fixture
def rows() -> Examples:
    labels = torch.arange(40) % 2
    pixels = torch.randint(0, 60, (40, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    pixels[labels == 1, :, :4] += 150
    return Examples(pixels.to(torch.uint8), labels)


@pytest.fixture
def retraining(rows: Examples, tmp_path: Path) -> Retraining:
    recipe = ImageRecipe(BaselineConfig(2, channels=1, size=8, width=8), TrainingOptions(epochs=2, batch_size=10), rows)
    watched = Examples(rows.inputs[:6], rows.labels[:6])
    return Retraining(recipe, watched, ChunkStore(tmp_path, recipe.binding("test", watched=watched)))


def tasks_of(count: int) -> list[Task]:
    return [Task(half, seed) for half in half_subsets(40, count, seed=0) for seed in (0, 1)]


def test_an_outcome_is_kept_and_read_back_without_training(retraining: Retraining, monkeypatch) -> None:
    task = tasks_of(1)[0]
    first = retraining.outcome(task)
    monkeypatch.setattr(ImageRecipe, "network", lambda *_: pytest.fail("trained again"))
    again = retraining.outcome(task)
    assert torch.equal(first.outputs, again.outputs)
    assert first.outputs.shape == (6, 2)
    assert not first.failed


def test_subset_and_seed_decide_the_outcome(retraining: Retraining) -> None:
    first, other_seed, other_half, _ = retraining.outcomes(tasks_of(2))
    assert not torch.equal(first.outputs, other_seed.outputs)
    assert not torch.equal(first.outputs, other_half.outputs)
    recipe = retraining.recipe
    assert isinstance(recipe, ImageRecipe)
    module = recipe.network(tasks_of(1)[0])
    logits = module(recipe.normalise(retraining.watched.inputs)).detach()
    torch.testing.assert_close(first.outputs, logits)


def test_training_leaves_the_callers_random_state_alone(retraining: Retraining) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    retraining.recipe.network(tasks_of(1)[0])
    assert torch.equal(torch.rand(2), expected)


def test_losses_and_margins_agree_with_the_outputs(retraining: Retraining) -> None:
    outcome = retraining.outcome(tasks_of(1)[0])
    chance = outcome.outputs.softmax(1).gather(1, outcome.labels[:, None])[:, 0]
    torch.testing.assert_close(outcome.losses, -chance.log())
    torch.testing.assert_close(outcome.margins, (chance / (1 - chance)).log())


def test_a_cancelled_ladder_keeps_what_was_trained_and_goes_on(retraining: Retraining) -> None:
    def cancel(fraction: float, note: str) -> None:
        if fraction >= 0.5:
            raise CancelledError(note)

    tasks = tasks_of(2)
    with pytest.raises(CancelledError, match="2 of 4"):
        retraining.outcomes(tasks, report=cancel)
    assert len(retraining.store.keys()) == 2
    fractions: list[float] = []
    assert len(retraining.outcomes(tasks, report=lambda fraction, _: fractions.append(fraction))) == 4
    assert fractions == [0.75, 1.0]


def test_a_training_that_diverges_is_kept_as_failed_and_not_repeated(rows: Examples, tmp_path: Path) -> None:
    recipe = ImageRecipe(
        BaselineConfig(2, channels=1, size=8, width=8), TrainingOptions(learning_rate=float("inf")), rows
    )
    retraining = Retraining(recipe, rows, ChunkStore(tmp_path, recipe.binding("test", watched=rows)))
    assert retraining.outcome(tasks_of(1)[0]).failed
    assert retraining.store.keys() == [tasks_of(1)[0].key]


def test_the_binding_changes_with_rows_options_and_model_but_not_with_the_recipes_seed(retraining: Retraining) -> None:
    recipe = retraining.recipe
    key = recipe.binding("test").key()
    flipped = Examples(recipe.rows.inputs, 1 - recipe.rows.labels)
    assert replace(recipe, rows=flipped).binding("test").key() != key
    assert replace(recipe, options=replace(recipe.options, epochs=3)).binding("test").key() != key
    assert replace(recipe, config=replace(recipe.config, width=9)).binding("test").key() != key
    assert replace(recipe, options=replace(recipe.options, seed=3)).binding("test").key() == key


def test_two_processes_train_the_same_networks_as_one(retraining: Retraining, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    tasks = tasks_of(1)
    alone = retraining.outcomes(tasks)
    store = ChunkStore(tmp_path / "two", retraining.store.binding)
    together = replace(retraining, store=store).outcomes(tasks, workers=2)
    torch.set_num_threads(threads)
    assert all(np.array_equal(a.outputs, b.outputs) for a, b in zip(alone, together, strict=True))


def test_other_labels_are_another_task_and_train_another_network(retraining: Retraining) -> None:
    plain = tasks_of(1)[0]
    relabelled = replace(plain, labels={int(plain.subset[0]): 1 - int(retraining.recipe.rows.labels[plain.subset[0]])})
    assert relabelled.key != plain.key
    assert replace(plain, labels={}, name="in words").key == plain.key
    assert not torch.equal(retraining.outcome(relabelled).outputs, retraining.outcome(plain).outputs)
    flipped = relabelled.labelled(retraining.recipe.rows.labels)
    assert (flipped != retraining.recipe.rows.labels).nonzero().flatten().tolist() == [int(plain.subset[0])]


def test_dropped_rows_are_what_is_missing_from_the_subset() -> None:
    assert Task.without(6, [4, 0], seed=1).subset.tolist() == [1, 2, 3, 5]


def test_a_failed_training_is_named_in_words(rows: Examples, tmp_path: Path) -> None:
    recipe = ImageRecipe(BaselineConfig(2, channels=1, size=8, width=8), TrainingOptions(epochs=1), rows)
    retraining = Retraining(recipe, rows, ChunkStore(tmp_path, recipe.binding("test", watched=rows)))
    tasks = [Task(np.arange(40), seed, name="on all rows") for seed in (0, 1)]
    retraining.store.put(tasks[1].key, {"outputs": torch.full((40, 2), torch.nan)})
    assert failures(tasks, retraining.outcomes(tasks)) == ("on all rows, seed 1",)


def test_an_outcome_of_some_rows_can_be_judged_by_other_labels(retraining: Retraining) -> None:
    outcome = retraining.outcome(tasks_of(1)[0])
    part = outcome.at([3, 1], labels=[0, 0])
    assert torch.equal(part.outputs, outcome.outputs[[3, 1]])
    torch.testing.assert_close(part.losses, -outcome.outputs.log_softmax(1)[[3, 1], 0])
