"""The convex hypothesis against plain leave-one-out refits, and the plan of groups of the non-convex one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from forwardinf_core.errors import DataError
from forwardinf_core.verification.convex import (
    WEIGHT_DECAY,
    both_influences,
    chosen_queries,
    living,
    pearson,
    regression,
    scaled,
)
from forwardinf_core.verification.estimates import head_estimates
from forwardinf_core.verification.groups import GroupPlan, bootstrap, group_influences, make_plan
from forwardinf_core.verification.lds import spearman
from forwardinf_core.verification.retraining import Examples, Outcome

N, N_OFFERED, EACH = 120, 60, 3


@pytest.fixture(scope="module")
def rows() -> Examples:
    digits = load_digits()
    pixels = torch.from_numpy(np.rint(digits.images * 255 / 16).astype(np.uint8)).unsqueeze(1)
    return Examples(pixels[: N + N_OFFERED], torch.from_numpy(digits.target[: N + N_OFFERED].astype(np.int64)))


@pytest.fixture(scope="module")
def measured(rows: Examples):
    train = rows.at(range(N))
    problem = regression(train, 10)
    offered = Examples(scaled(rows, living(train))[N:], rows.labels[N:])
    calls: list[tuple[int, int]] = []

    def kept(start: int, stop: int, compute):
        calls.append((start, stop))
        return compute()

    return problem, offered, both_influences(problem, offered, each=EACH, seed=0, kept=kept), calls


def sklearn_losses(inputs: np.ndarray, labels: np.ndarray, shown: np.ndarray, shown_labels: np.ndarray) -> np.ndarray:
    model = LogisticRegression(C=1 / (WEIGHT_DECAY * len(labels)), tol=1e-10, max_iter=10_000).fit(inputs, labels)
    return -model.predict_log_proba(shown)[np.arange(len(shown)), shown_labels]


def test_both_influences_are_those_of_scikit_learns_refits(measured) -> None:
    problem, offered, result, _ = measured
    inputs, labels = problem.inputs[:, :-1].numpy(), problem.labels.numpy()
    query = int(result.queries[0])
    x, y = offered.inputs[query : query + 1].numpy(), offered.labels[query : query + 1].numpy()
    everything = sklearn_losses(inputs, labels, x, y)
    for row in (0, 17, 90):
        keep = np.arange(N) != row
        expected = sklearn_losses(inputs[keep], labels[keep], x, y) - everything
        np.testing.assert_allclose(result.train_to_test[0, row], expected[0], atol=1e-6)
    before = sklearn_losses(inputs, labels, inputs, labels)
    after = sklearn_losses(np.concatenate([inputs, x]), np.concatenate([labels, y]), inputs, labels)
    np.testing.assert_allclose(result.mirrored[0], before - after, atol=1e-6)


def test_the_hypothesis_holds_on_digits_and_the_influence_function_explains_it(measured) -> None:
    problem, offered, result, calls = measured
    assert calls == [(0, N)]
    assert result.pearson.shape == (2 * EACH,)
    assert result.pearson.mean() > 0.8  # few rows: each is a large share; 0.99 needs thousands
    assert result.highest.tolist() == [True] * EACH + [False] * EACH
    found = head_estimates(
        Examples(problem.inputs[:, :-1], problem.labels),
        offered.at(result.queries),
        problem.fit,
        problem.preconditioner,
    )
    against = {name: float(np.nanmean(spearman(result.train_to_test.T, value.T))) for name, value in found.items()}
    assert against["influence-hessian"] > 0.9
    assert against["influence-hessian"] > against["gradient-dot"] > against["random"]
    assert against["influence-fisher"] > 0.5


def test_queries_are_those_of_highest_loss_and_others_at_random() -> None:
    positions, highest = chosen_queries(torch.tensor([0.1, 3.0, 0.2, 2.0, 0.3, 0.4]), 2, seed=0)
    assert positions[:2].tolist() == [1, 3]
    assert set(positions[2:].tolist()) < {0, 2, 4, 5}
    assert highest.tolist() == [True, True, False, False]


def test_too_few_rows_or_classes_are_refused(rows: Examples) -> None:
    with pytest.raises(DataError, match="at least 20 labelled rows"):
        regression(rows.at(range(10)), 10)
    with pytest.raises(DataError, match="of two classes"):
        regression(Examples(rows.inputs[:40], torch.zeros(40, dtype=torch.int64)), 10)


def test_pearson_is_numpys_and_nan_for_a_constant() -> None:
    random = np.random.default_rng(0)
    a, b = random.normal(size=(20, 2)), random.normal(size=(20, 2))
    assert pearson(a, b)[1] == pytest.approx(np.corrcoef(a[:, 1], b[:, 1])[0, 1])
    assert np.isnan(pearson(np.zeros((20, 1)), b[:, :1]))[0]


@pytest.fixture
def plan() -> GroupPlan:
    labels = np.arange(100) % 5
    return make_plan(labels, 7, n_classes=5, share=0.3, seeds=(4, 5), seed=0)


def test_groups_are_equal_with_a_rising_share_of_wrong_labels(plan: GroupPlan) -> None:
    assert len(plan.groups) == 30
    assert {len(group) for group in plan.groups} == {30}
    wrong = [len(plan.wrong.keys() & set(group.tolist())) for group in plan.groups]
    assert wrong[0] == 0
    assert wrong[-1] == 30
    assert wrong == sorted(wrong)
    assert all(label != row % 5 and 0 <= label < 5 for row, label in plan.wrong.items())


def test_trainings_are_on_all_rows_with_the_queries_and_without_each_group(plan: GroupPlan) -> None:
    assert len(plan.tasks) == 2 * 32
    first = plan.tasks[:3]
    assert [len(task.subset) for task in first] == [100, 107, 70]
    assert all(task.labels == plan.wrong and task.seed == 4 for task in first)
    assert not set(first[2].subset) & set(plan.groups[0])
    assert len({task.key for task in plan.tasks}) == len(plan.tasks)


def outcome(losses: np.ndarray) -> Outcome:
    """Return outputs of two classes whose losses for label 0 are these."""
    margin = torch.log(torch.expm1(torch.from_numpy(losses)))
    return Outcome(torch.stack([torch.zeros_like(margin), margin], 1), torch.zeros(len(losses), dtype=torch.int64))


def test_group_influences_are_sums_of_loss_changes_averaged_over_seeds_and_a_failure_is_left_out(
    plan: GroupPlan,
) -> None:
    random = np.random.default_rng(0)
    losses = random.uniform(0.5, 2.0, (2, 32, 107))
    outcomes = [outcome(row) for row in losses.reshape(64, 107)]
    found = group_influences(plan, outcomes)
    group = plan.groups[4]
    expected = (losses[:, 6, 100:].sum(1) - losses[:, 0, 100:].sum(1)).mean()
    assert found.train_to_test[4] == pytest.approx(expected)
    assert found.mirrored[4] == pytest.approx((losses[:, 0, group] - losses[:, 1, group]).sum(1).mean())
    outcomes[6] = Outcome(torch.full((107, 2), torch.nan), outcomes[6].labels)
    found = group_influences(plan, outcomes)
    assert found.failed == ("without group 5, seed 4",)
    assert found.train_to_test[4] == pytest.approx(losses[1, 6, 100:].sum() - losses[1, 0, 100:].sum())


def test_the_interval_of_a_correlation_surrounds_it() -> None:
    random = np.random.default_rng(0)
    a = random.normal(size=200)
    b = a + random.normal(size=200)
    low, high = bootstrap(a, b, pearson)
    assert low < np.corrcoef(a, b)[0, 1] < high


def test_groups_of_too_few_rows_are_refused() -> None:
    with pytest.raises(DataError, match="too few for groups"):
        make_plan(np.arange(20) % 5, 7, n_classes=5, share=0.3, seeds=(0,), seed=0)
