"""The benchmark of the linear datamodelling score, on a problem small enough to know its answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from forwardinf_core.benchmarks.lds_scores import Method, Scene
from forwardinf_core.benchmarks.lds_table import HEAD, averaged, cascades, compare, make_scores, markdown
from forwardinf_core.benchmarks.lds_truth import Problem, digits, digits_noisy, make_truth, reference_models
from forwardinf_core.models.baseline import Baseline, BaselineConfig
from forwardinf_core.models.training import TrainingOptions
from forwardinf_core.verification.image_recipe import ImageRecipe
from forwardinf_core.verification.lds import Truth, spearman, subset_sums
from forwardinf_core.verification.retraining import Examples, half_subsets


@pytest.fixture(scope="module")
def problem() -> Problem:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(46) % 3
    pixels = torch.randint(0, 120, (46, 1, 8, 8), generator=generator)
    pixels[labels == 0, :, :, ::2] += 60
    pixels[labels == 1, :, ::2, :] += 60
    images = Examples(pixels.to(torch.uint8), labels)
    recipe = ImageRecipe(
        BaselineConfig(3, channels=1, size=8, width=8),
        TrainingOptions(epochs=2, batch_size=10),
        Examples(images.inputs[:40], images.labels[:40]),
    )
    return Problem("digits", recipe, Examples(images.inputs[40:], images.labels[40:]), n_subsets=12, n_seeds=2)


@pytest.fixture(scope="module")
def models(problem: Problem, tmp_path_factory: pytest.TempPathFactory) -> list[Baseline]:
    return reference_models(problem, tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize(
    "method",
    [Method("exact", "tail", 1e-3), Method("ekfac", "head", 1e-3), Method("gradient", "full"), Method("adam", "tail")],
    ids=lambda method: method.family,
)
def test_the_limit_of_a_short_step_ranks_as_a_short_step_does(
    problem: Problem, models: list[Baseline], method: Method
) -> None:
    scene = Scene(problem, models[0], method.scope)
    limit = scene.scores(method).double().numpy()
    stepped = scene.scores(replace(method, rise=1e-3)).double().numpy()
    assert spearman(limit.T, stepped.T).min() > 0.99


def test_enough_conjugate_gradients_reach_the_exact_inverse(problem: Problem, models: list[Baseline]) -> None:
    scene = Scene(problem, models[0], "tail")
    exact = scene.scores(Method("exact", "tail", 1e-2)).double().numpy()
    solved = scene.scores(Method("conjugate-gradient", "tail", 1e-2, size=20)).double().numpy()
    assert spearman(exact.T, solved.T).min() > 0.98


def test_a_truth_made_of_the_scores_themselves_puts_their_method_first_with_its_damping(
    problem: Problem, models: list[Baseline], tmp_path: Path
) -> None:
    methods = [Method("gradient", "head"), Method("exact", "head", 1e-1), Method("exact", "head", 1e-4)]
    scores = make_scores(problem, models[:2], methods, tmp_path)
    subsets = half_subsets(40, 60, seed=0)
    truth = Truth.of(subsets, subset_sums(scores[methods[2]][0], subsets)[None])
    lines = compare(problem, truth, scores)
    assert [line.method for line in lines] == [methods[2], methods[0]]
    assert lines[0].one[0] > lines[1].one[0]
    assert len(list(markdown(lines))) == 4


def test_scores_are_kept_and_read_back(
    problem: Problem, models: list[Baseline], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = [Method("gradient", "head"), Method("released", "full")]
    first = make_scores(problem, models[:1], methods, tmp_path)
    monkeypatch.setattr(Scene, "scores", lambda *_: pytest.fail("computed again"))
    again = make_scores(problem, models[:1], methods, tmp_path)
    assert all(np.array_equal(first[method], again[method]) for method in methods)
    assert first[methods[1]].shape == (1, 6, 40)
    assert (first[methods[1]] >= 0).all()


def test_a_cascade_has_the_whole_networks_scores_on_the_heads_shortlist_and_nothing_or_the_head_elsewhere() -> None:
    random = np.random.default_rng(0)
    head, full = random.normal(size=(2, 1, 3, 100))
    method = Method("ekfac", "full", 1e-8)
    found = {one.kind: scores[0] for one, scores in cascades({HEAD: head, method: full}).items()}
    for query in range(3):
        order = np.argsort(-head[0, query])
        shortlist, others = np.r_[order[:3], order[-2:]], order[3:-2]
        np.testing.assert_array_equal(found["cascade"][query][shortlist], full[0, query][shortlist])
        np.testing.assert_array_equal(found["cascade-filled"][query][shortlist], full[0, query][shortlist])
        assert not found["cascade"][query][others].any()
        scale = found["cascade-filled"][query][others] / head[0, query][others]
        np.testing.assert_allclose(
            scale, np.sqrt(np.mean(full[0, query][shortlist] ** 2) / np.mean(head[0, query][shortlist] ** 2))
        )


def test_models_count_alike_in_the_average_whatever_the_size_of_their_scores() -> None:
    scores = np.random.default_rng(0).normal(size=(3, 2, 5))
    scaled = scores * np.array([1.0, 10.0, 1e-3])[:, None, None]
    np.testing.assert_allclose(averaged(scores), averaged(scaled), rtol=1e-5)


def test_the_truth_is_made_once_and_has_one_outcome_per_seed_subset_and_query(problem: Problem, tmp_path: Path) -> None:
    first, again = (make_truth(problem, tmp_path) for _ in range(2))
    assert first.outcomes.shape == (2, 12, 6)
    assert np.array_equal(first.outcomes, again.outcomes)


def test_choosing_and_reporting_queries_do_not_overlap() -> None:
    problem = digits()
    assert not set(problem.choosing) & set(problem.reporting)
    assert len(problem.choosing) == len(problem.reporting) == 50
    assert len(problem.recipe.rows.labels) == 1_297


def test_a_tenth_of_the_noisy_digits_is_wrong_and_the_queries_are_the_same() -> None:
    clean, noisy = digits(), digits_noisy()
    labels, kept = noisy.recipe.rows.labels, clean.recipe.rows.labels
    assert int((labels != kept).sum()) == 129
    assert torch.equal(noisy.queries.labels, clean.queries.labels)
    assert (noisy.name, noisy.n_seeds) == ("digits-noisy", 1)


def test_every_damping_can_have_a_line_of_its_own(problem: Problem, tmp_path: Path) -> None:
    truth = make_truth(problem, tmp_path)
    random = np.random.default_rng(0)
    scores = {
        Method("ekfac", "tail", damping): random.normal(size=(1, 6, len(problem.recipe.rows.labels)))
        for damping in (1e-3, 1e-2)
    }
    assert len(compare(problem, truth, scores)) == 1
    assert {line.method for line in compare(problem, truth, scores, every_damping=True)} == scores.keys()
