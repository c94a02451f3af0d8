"""A text project as something that can be retrained: the same training as ``fit``, on any of its rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.fitting import FitOptions
from forwardinf_core.audits.opening import open_audit
from forwardinf_core.jobs import run as jobs
from forwardinf_core.verification.canaries import canary_options, stored_canaries
from forwardinf_core.verification.fidelity import truth_by_retraining
from forwardinf_core.verification.recipes import can_be_retrained, recipe_of, retraining_of
from forwardinf_core.verification.removal import removal_options, stored_removal
from forwardinf_core.verification.retraining import Task
from forwardinf_core.verification.text_recipe import TextRecipe, batch_as_tokens, tokens_as_batch
from tests.unit.text_cases import QUERY, write_project

EPOCHS = 6


@pytest.fixture(scope="module")
def text_audit(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    folder = write_project(tmp_path_factory.mktemp("texts"))
    jobs.run_here("fit", folder, FitOptions(epochs=EPOCHS, width=16), lambda *_: None)
    return open_audit(folder)


def test_tokens_and_their_mask_survive_being_one_tensor() -> None:
    batch = {
        "input_ids": torch.tensor([[2, 5, 0, 0], [2, 0, 7, 0]]),
        "attention_mask": torch.tensor([[1, 1, 0, 0]] * 2),
    }
    found = tokens_as_batch(batch_as_tokens(batch))
    assert torch.equal(found["attention_mask"], batch["attention_mask"])
    assert torch.equal(found["input_ids"], batch["input_ids"] * batch["attention_mask"])


def test_retraining_on_all_rows_gives_the_model_that_fit_gave(text_audit: Audit) -> None:
    recipe = recipe_of(text_audit)
    assert can_be_retrained(text_audit)
    assert isinstance(recipe, TextRecipe)
    assert recipe.options.epochs == EPOCHS
    again = recipe.network(Task(np.arange(len(recipe.rows)), 0))
    for name, value in text_audit.model.module.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=1e-4, atol=1e-5)


def test_rows_that_are_left_out_play_no_part(text_audit: Audit) -> None:
    recipe = recipe_of(text_audit)
    task = Task(np.arange(0, len(recipe.rows), 2), 1)
    changed = recipe.rows.inputs.clone()
    changed[1::2] = changed[0]
    other = replace(recipe, rows=replace(recipe.rows, inputs=changed))
    assert torch.equal(recipe.outputs(task, recipe.rows), other.outputs(task, recipe.rows))


def test_relabelled_rows_are_learnt_with_their_new_labels(text_audit: Audit) -> None:
    recipe = recipe_of(text_audit)
    everything = np.arange(len(recipe.rows))
    turned = (recipe.rows.labels + 1) % 3
    renamed = replace(recipe, rows=replace(recipe.rows, labels=turned))
    found = recipe.outputs(Task(everything, 0, dict(enumerate(turned.tolist()))), recipe.rows)
    assert torch.equal(found, renamed.outputs(Task(everything, 0), recipe.rows))
    assert not torch.equal(found, recipe.outputs(Task(everything, 0), recipe.rows))


def test_halves_of_a_text_project_are_retrained_and_watched_on_its_test_rows(text_audit: Audit) -> None:
    retraining = retraining_of(text_audit)
    n_train = len(text_audit.train)
    watched = np.arange(n_train, n_train + len(text_audit.test))
    truth, _ = truth_by_retraining(retraining, np.arange(n_train), watched, subsets=10, seeds=1)
    assert truth.outcomes.shape == (1, 10, len(text_audit.test))


def test_an_answer_about_a_text_is_checked_on_the_whole_model(text_audit: Audit) -> None:
    options = removal_options(text_audit, f"test:{QUERY}", scope="model", method="head", seeds=2, k=3)
    jobs.run_here("removal", text_audit.folder, options, lambda *_: None)
    found = stored_removal(text_audit, options)
    assert found is not None
    assert not found.failed


def test_canaries_are_planted_among_texts_and_the_whole_model_is_trained_on_them(text_audit: Audit) -> None:
    options = replace(canary_options(text_audit, "model", method="head"), copies=5)
    jobs.run_here("canaries", text_audit.folder, options, lambda *_: None)
    checks = stored_canaries(text_audit, options)
    assert checks is not None
    assert {"copies", "seed"} <= {check.name for check in checks}
