"""The effect of cleaning: intervals against a closed form, arms as retrained, and what planted errors must show."""

from __future__ import annotations

import numpy as np
import pytest

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.review_effect import ARMS, effect_now, find_effect, measured, options_for, tasks_of
from forwardinf_core.errors import DataError


def test_without_change_between_arms_the_gain_is_zero_with_an_interval_of_zero() -> None:
    right = np.tile((np.arange(200) < 150).astype(float), (3, 2, 1))
    arms, gains = measured(right)
    assert [arm["accuracy"] for arm in arms] == [0.75] * 3
    assert all((gain["change"], gain["low"], gain["high"]) == (0, 0, 0) for gain in gains)


def test_the_interval_of_an_accuracy_is_that_of_a_binomial_share() -> None:
    right = np.tile((np.arange(400) < 300).astype(float), (3, 1, 1))
    arms, _ = measured(right)
    half = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert arms[0]["low"] == pytest.approx(0.75 - half, abs=0.006)
    assert arms[0]["high"] == pytest.approx(0.75 + half, abs=0.006)


def test_a_training_that_failed_is_left_out_of_every_mean() -> None:
    right = np.ones((3, 2, 50))
    right[1, 1] = np.nan
    arms, gains = measured(right)
    assert arms[1]["accuracy"] == 1.0
    assert gains[0]["change"] == 0.0


def test_the_arms_train_on_the_rows_they_are_named_for() -> None:
    options = options_for("model", {1: 7, 2: 8}, frozenset({2, 5}), [0, 9])
    tasks = tasks_of(options, 10, (0, 1))
    assert [task.seed for task in tasks] == [0, 1, 0, 1, 0, 1]
    assert tasks[0].subset.tolist() == list(range(10))
    assert tasks[2].subset.tolist() == [0, 1, 3, 4, 6, 7, 8, 9]
    assert dict(tasks[2].labels) == {1: 7}  # a dropped row needs no new label
    assert tasks[4].subset.tolist() == list(range(1, 9))
    assert not tasks[0].labels
    assert not tasks[4].labels
    with pytest.raises(DataError, match="Nothing is relabelled or dropped"):
        options_for("head", {}, frozenset(), [0])


def test_mending_the_planted_labels_of_the_demo_does_the_head_no_harm_and_is_kept(digits_audit: Audit) -> None:
    truth = digits_audit.train.labels_in("true_label")
    wrong = np.flatnonzero(truth != digits_audit.train_labels)
    options = options_for("head", {int(at): int(truth[at]) for at in wrong}, frozenset(), wrong.tolist())
    assert find_effect(digits_audit, options) is None
    found = effect_now(digits_audit, options)
    assert find_effect(digits_audit, options) == found
    assert [arm.name for arm in found.arms] == list(ARMS)
    assert [arm.rows for arm in found.arms] == [1312, 1312, 1312 - len(wrong)]
    assert all(arm.low <= arm.accuracy <= arm.high for arm in found.arms)
    assert found.gains[0].change >= -0.005
    for at, arm in enumerate(found.arms):
        rows = sum(one.test_rows for one in found.classes)
        mean = sum(one.test_rows * one.shares[at] for one in found.classes) / rows
        assert mean == pytest.approx(arm.accuracy)
