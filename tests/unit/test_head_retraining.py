"""Refitting a head on cached features: dropped and relabelled rows have the effect that plain refits have."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from forwardinf_core.audits.audit import Audit
from forwardinf_core.errors import DataError
from forwardinf_core.verification.head_retraining import HeadRetraining, head_retraining_of
from forwardinf_core.verification.retraining import Examples, Task

ATOL = 1e-5


@pytest.fixture
def head() -> HeadRetraining:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    features = torch.randn(60, 4, generator=generator)
    features[:, :3] += 1.5 * torch.nn.functional.one_hot(labels, 3)
    labels[5] = -1  # a row without a label
    return HeadRetraining(Examples(features, labels), Examples(features[:4] + 0.1, labels[:4]), 3)


def by_sklearn(head: HeadRetraining, positions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    model = LogisticRegression(C=1 / (head.l2 * len(positions)), tol=1e-10, max_iter=10_000)
    model.fit(head.rows.inputs.double().numpy()[positions], labels[positions])
    return model.predict_proba(head.watched.inputs.double().numpy())


def test_dropped_and_relabelled_rows_give_scikit_learns_refits(head: HeadRetraining) -> None:
    labels = head.rows.labels.numpy()
    everything = np.flatnonzero(labels >= 0)
    tasks = [
        Task.without(60, [1, 2, 8], seed=0),
        Task(np.arange(60), 0, labels={4: 0, 5: 2}),  # the unlabelled row gets a label
        Task.without(60, [4], seed=0),
    ]
    found = [outcome.outputs.softmax(1).numpy() for outcome in head.outcomes(tasks)]
    changed = labels.copy()
    changed[[4, 5]] = 0, 2
    np.testing.assert_allclose(found[0], by_sklearn(head, np.setdiff1d(everything, [1, 2, 8]), labels), atol=ATOL)
    np.testing.assert_allclose(found[1], by_sklearn(head, np.arange(60), changed), atol=ATOL)
    np.testing.assert_allclose(found[2], by_sklearn(head, np.setdiff1d(everything, [4]), labels), atol=ATOL)
    of_all = head.outcome_of_all().outputs.softmax(1).numpy()
    np.testing.assert_allclose(of_all, by_sklearn(head, everything, labels), atol=ATOL)


def test_dropping_every_row_is_refused(head: HeadRetraining) -> None:
    with pytest.raises(DataError, match="no training row left"):
        head.outcomes([Task(np.array([5]), 0)])


def test_removing_the_rows_that_helped_most_hurts_the_query_most(digits_audit: Audit) -> None:
    answer = digits_audit.attribute(f"test:{digits_audit.test_ids[3]}")
    head = head_retraining_of(digits_audit, [answer.query], [answer.target])
    n = len(digits_audit.train)
    random = np.random.default_rng(0).permutation(n)[:30]
    tasks = [Task.without(n, rows, seed=0) for rows in (answer.scores.top(30), random, answer.scores.bottom(30))]
    top, middle, bottom = (float(outcome.margins[0]) for outcome in head.outcomes(tasks))
    assert top < middle < bottom
