"""Canaries: what is planted, that the person's rows stay as they are, and that the demo's head finds them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.context import AtOnce
from forwardinf_core.cli import main
from forwardinf_core.datasets.views import Subset
from forwardinf_core.errors import DataError
from forwardinf_core.verification.canaries import canary_options, copy_ranks, judged, make_canaries, stored_canaries
from forwardinf_core.verification.controls import checks_of
from forwardinf_core.verification.planting import Plan, PlantedRows, plan


def test_only_rows_are_copied_that_no_training_row_equals_and_only_agreed_labels_made_wrong(
    digits_audit: Audit,
) -> None:
    found = plan(digits_audit, copies=25, wrong_share=0.05, seed=0)
    there = {digest.tobytes() for digest in digits_audit.train.digests}
    assert len(found.copies) == 25
    assert not any(digits_audit.test.digests[p].tobytes() in there for p in found.copies)
    said = digits_audit.outputs_of("head").argmax(1).numpy()
    assert (said[found.wrong] == digits_audit.train_labels[found.wrong]).all()
    assert (found.labels != digits_audit.train_labels[found.wrong]).all()
    assert len(found.wrong) == round(0.05 * len(digits_audit.train_ids))


def test_the_plan_follows_its_seed(digits_audit: Audit) -> None:
    first, again, other = (plan(digits_audit, copies=9, wrong_share=0.05, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.copies, again.copies)
    assert np.array_equal(first.wrong, again.wrong)
    assert not np.array_equal(first.wrong, other.wrong)


def test_the_copy_holds_the_planted_rows_and_the_own_rows_stay_as_they_are(digits_audit: Audit) -> None:
    train, test = digits_audit.train, digits_audit.test
    before = train.fingerprint
    planted = Plan(np.array([3, 5]), np.array([0, 7]), np.array([9, 9]))
    rows = PlantedRows(train, test, planted)
    assert len(rows) == len(train) + 2
    assert rows.ids[-2:] == [f"canary:{test.ids[3]}", f"canary:{test.ids[5]}"]
    assert rows.labels[[0, 7]].tolist() == [9, 9]
    assert rows.labels[-2:].tolist() == test.labels[[3, 5]].tolist()
    assert rows.payload(len(train) + 1) == test.payload(5)
    assert rows.image(len(train)).tobytes() == digits_audit.test.image(3).tobytes()  # type: ignore[attr-defined]
    assert rows.position(rows.ids[-1]) == len(train) + 1
    assert rows.fingerprint != before
    assert train.fingerprint == before
    assert train.labels[0] == digits_audit.train_labels[0]


def test_the_rank_of_a_copy_is_how_many_rows_are_ahead_of_it() -> None:
    scores = np.array([[3, 1, 2, 9, 0], [5, 5, 0, 7, 6]], dtype=np.float32)
    assert copy_ranks(scores, n_train=3).tolist() == [0, 1]


def test_recall_counts_what_is_among_the_first_k() -> None:
    n_train, scores = 98, np.zeros((3, 100), dtype=np.float32)
    scores[0, :50] = 1  # the copy of the first query, row 98, is behind 50 others
    scores[1, 99] = 5
    scores[2, :6] = -1  # rows 0 to 5 hurt; rows 50 and 51 do not
    planted = Plan(np.array([0, 1]), np.array([0, 1, 50, 51]), np.zeros(4, np.int64))
    scores[2, 50:] = 1
    copies, wrong = judged(scores, planted, n_train)
    assert (copies.recall, copies.k, copies.verdict) == (0.5, 5, "amber")
    assert (wrong.recall, wrong.k, wrong.verdict) == (0.5, 10, "amber")


def test_the_demos_head_finds_planted_copies_and_wrong_labels(
    digits_audit: Audit, capsys: pytest.CaptureFixture[str]
) -> None:
    options = canary_options(digits_audit)
    found = {check.name: check for check in checks_of(make_canaries(digits_audit, options, AtOnce()))}
    assert found["copies"].recall is not None
    assert found["wrong-labels"].recall is not None
    assert found["copies"].recall >= 0.7
    assert found["wrong-labels"].recall >= 0.9
    assert found["copies-relative"].recall == 1.0
    assert {"unchanged", "randomised", "step", "overlap"} <= found.keys()
    assert {check.name for check in stored_canaries(digits_audit, options) or ()} == found.keys()
    capsys.readouterr()
    assert main(["verify", "demo:digits", "canaries", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [one["canary"] for one in said["canaries"]] == ["copies", "wrong-labels", "copies-relative"]
    assert all({"recall", "k", "verdict"} <= one.keys() for one in said["canaries"])


def test_too_few_rows_to_plant_in_get_one_sentence(digits_audit: Audit) -> None:
    few = Audit(digits_audit.project, digits_audit.model, digits_audit.train, Subset(digits_audit.test, [0, 1, 2]))
    with pytest.raises(DataError, match="too little to plant"):
        plan(few, copies=25, wrong_share=0.05, seed=0)
