"""An open project as something that can be retrained: its own rows, its own recipe, one store for every question."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from forwardinf_core.audits.audit import Audit
from forwardinf_core.errors import ModelError
from forwardinf_core.models.baseline_folder import load_training
from forwardinf_core.models.rows import ModelRows
from forwardinf_core.models.training import TrainingOptions
from forwardinf_core.projects.demos import digits
from forwardinf_core.verification.image_recipe import ImageRecipe
from forwardinf_core.verification.recipes import can_be_retrained, recipe_of, retraining_of
from forwardinf_core.verification.retraining import Task


def test_a_project_is_retrained_on_its_own_rows_as_its_model_sees_them(digits_audit: Audit) -> None:
    recipe = recipe_of(digits_audit)
    assert isinstance(recipe, ImageRecipe)
    assert np.array_equal(recipe.rows.labels, digits_audit.train_labels)
    expected = ModelRows(digits_audit.model, digits_audit.train).batch(5, 9)["x"]
    torch.testing.assert_close(recipe.normalise(recipe.rows.inputs[5:9]), expected, atol=1e-5, rtol=1e-5)


def test_a_project_is_retrained_as_its_model_was_trained(digits_audit: Audit) -> None:
    recipe = recipe_of(digits_audit)
    assert isinstance(recipe, ImageRecipe)
    assert recipe.options == digits.TRAINING
    folder = digits_audit.project.root / "model"
    assert load_training(folder, TrainingOptions) == digits.TRAINING
    assert load_training(folder.parent, TrainingOptions) is None


def test_retraining_watches_all_training_rows_and_then_all_test_rows(digits_audit: Audit) -> None:
    retraining = retraining_of(digits_audit)
    n_train = len(digits_audit.train)
    assert len(retraining.watched) == n_train + len(digits_audit.test)
    assert np.array_equal(retraining.watched.labels[n_train:], digits_audit.test.labels)
    recipe = retraining.recipe
    assert isinstance(recipe, ImageRecipe)
    short = replace(retraining, recipe=replace(recipe, options=replace(recipe.options, epochs=1)))
    outcome = short.outcome(Task.without(n_train, np.arange(n_train - 100), seed=0))
    assert outcome.outputs.shape == (len(retraining.watched), 10)
    assert retraining_of(digits_audit).store.folder == retraining.store.folder


def test_a_model_trained_elsewhere_is_refused_with_what_is_possible_instead(digits_audit: Audit) -> None:
    foreign = replace(digits_audit.model, module=nn.Linear(2, 2), kind="transformers")
    audit = Audit(digits_audit.project, foreign, digits_audit.train, digits_audit.test)
    assert not can_be_retrained(audit)
    with pytest.raises(ModelError, match="transformers cannot be retrained here") as failure:
        recipe_of(audit)
    assert "last layer" in failure.value.hint
