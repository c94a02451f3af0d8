"""The parts of the search for wrong labels, against slow references and planted truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cleanlab.rank import get_label_quality_scores
from sklearn.metrics import roc_auc_score
from torch import Tensor

from forwardinf_core.audits.mislabels import heads, mirrored, neighbours, ranking, second_opinion
from forwardinf_core.audits.mislabels.opinions import KEPT, Opinion
from forwardinf_core.audits.mislabels.planted import Calibration, plant, raised
from forwardinf_core.audits.mislabels.smoother import RIDGE, Smoother
from forwardinf_core.audits.mislabels.words import word_features
from forwardinf_core.audits.patches import patch_features


def clouds(
    n: int = 300, n_classes: int = 3, wrong: float = 0.1, spread: float = 1.0
) -> tuple[Tensor, Tensor, np.ndarray]:
    """Return features of overlapping clouds, their labels, and which of these are wrong."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.arange(n) % n_classes
    features = spread * torch.randn(n, 6, generator=generator)
    features[torch.arange(n), truth] += 3.0
    flipped = torch.rand(n, generator=generator) < wrong
    shift = torch.randint(1, n_classes, (n,), generator=generator)
    return features, torch.where(flipped, (truth + shift) % n_classes, truth), flipped.numpy()


def test_leave_one_out_predictions_are_those_of_refitting_without_the_row() -> None:
    features, labels, _ = clouds(60)
    smoother = Smoother.fit(features, seed=0)
    sums = smoother._sums(labels, 3)
    found = smoother._predictions(sums, labels, 0, 60)
    # Ψ = Φ (ΦᵀΦ + RIDGE)^(−1/2): undo the ridge of all rows to refit by hand on the rows of Ψ.
    root = smoother.root.double()
    gram = root.T @ root
    phi_gram = torch.linalg.inv(torch.eye(len(gram), dtype=torch.float64) - gram) * RIDGE
    assert torch.linalg.eigvalsh(phi_gram).min() > 0
    targets = torch.nn.functional.one_hot(labels, 3).double()
    for row in (0, 17, 59):
        rest = torch.arange(60) != row
        # (ΦᵀΦ + λ)⁻¹ in the coordinates of Ψ is the identity; without a row it loses that row's ψ ψᵀ.
        inner = torch.eye(len(gram), dtype=torch.float64) - torch.outer(root[row], root[row])
        expected = root[row] @ torch.linalg.solve(inner, root[rest].T @ targets[rest])
        torch.testing.assert_close(found[row].double(), expected, atol=2e-3, rtol=2e-3)


def test_every_head_judges_rows_it_was_not_fitted_on() -> None:
    features, labels, wrong = clouds()
    folds = heads.folds_of(labels.numpy(), 5, seed=0)
    opinion = heads.held_out_opinion(heads.standardised(features), labels, 3, folds, penalty=1e-2)
    assert roc_auc_score(wrong, opinion.loss()) > 0.9
    fitted = heads.fit_head(heads.standardised(features)[folds != 2], labels[folds != 2], 3, penalty=1e-2)
    expected = heads.judged(fitted, heads.standardised(features)[folds == 2], labels[folds == 2])
    torch.testing.assert_close(opinion.own[torch.from_numpy(folds == 2)], expected.own)


def test_folds_spread_every_class_evenly() -> None:
    labels = np.repeat([0, 1, 2], [50, 10, 1])
    folds = heads.folds_of(labels, 5, seed=3)
    assert np.bincount(folds[labels == 0]).tolist() == [10] * 5
    assert np.bincount(folds[labels == 1]).tolist() == [2] * 5


def test_an_opinion_of_thousands_of_classes_keeps_ten_numbers_a_row() -> None:
    features = torch.randn(200, 8)
    labels = torch.arange(200) % 3_000
    head = heads.Head(torch.randn(3_000, 8), torch.zeros(3_000))
    opinion = heads.judged(head, features, labels)
    assert opinion.classes.shape == (200, KEPT)
    expected = torch.nn.functional.cross_entropy(features @ head.weight.T, labels, reduction="none")
    torch.testing.assert_close(opinion.loss(), expected, atol=1e-4, rtol=1e-4)


def test_cleanlab_in_batches_is_cleanlab_on_the_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels, _ = clouds()
    folds = heads.folds_of(labels.numpy(), 5, seed=0)
    opinion = heads.held_out_opinion(heads.standardised(features), labels, 3, folds, penalty=1e-2)
    monkeypatch.setattr(second_opinion, "BLOCK_NUMBERS", 100)
    found = second_opinion.confident_learning(opinion, labels, 3)
    matrix = second_opinion.dense(opinion, labels, 3, slice(0, len(labels)))
    assert np.allclose(matrix.sum(1), 1.0)
    expected = get_label_quality_scores(labels.numpy(), matrix, method="normalized_margin")
    assert np.allclose(1.0 - found.suspicion.numpy(), expected, atol=1e-5)
    assert 15 <= found.n_wrong <= 45


def test_neighbours_are_the_nearest_and_never_the_row_itself() -> None:
    features, labels, wrong = clouds(120)
    found = neighbours.nearest_rows(features, 10)
    unit = torch.nn.functional.normalize(features, dim=1)
    similar = (unit @ unit.T).fill_diagonal_(-2)
    torch.testing.assert_close(found[5], similar[5].topk(10).indices)
    assert roc_auc_score(wrong, neighbours.disagreement(found, labels)) > 0.8


def test_a_step_on_trusted_rows_lowers_the_loss_of_those_held_back_and_raises_that_of_wrong_rows() -> None:
    features, labels, wrong = clouds(400, wrong=0.3)
    clean, clean_labels, _ = clouds(200, wrong=0.0)
    head = heads.Head(torch.zeros(3, 6), torch.zeros(3))
    after, step = mirrored.group_step(head, clean, clean_labels, seed=0)
    assert step.steps > 0
    assert step.held_back_after < step.held_back_before
    assert roc_auc_score(wrong, heads.judged(after, features, labels).loss()) > 0.9


def test_a_group_that_teaches_nothing_leaves_the_head_as_it_is() -> None:
    features, labels, _ = clouds(100)
    head = heads.fit_head(features, labels, 3, penalty=1e-6)
    noise = torch.randint(0, 3, (100,), generator=torch.Generator().manual_seed(4))
    after, step = mirrored.group_step(head, features, noise, seed=0)
    if step.steps == 0:
        assert torch.equal(after.weight, head.weight)
    assert step.held_back_after <= step.held_back_before


def test_trusted_rows_that_speak_against_a_wrong_row_are_of_its_true_class() -> None:
    features, labels, wrong = clouds(300, wrong=0.2, spread=0.5)
    clean, clean_labels, _ = clouds(90, wrong=0.0, spread=0.5)
    head = heads.fit_head(clean, clean_labels, 3, penalty=1e-1)
    found = mirrored.speaking_against(head, features, labels, (clean, clean_labels), 5)
    truth = torch.arange(300) % 3
    rows = torch.nonzero(torch.from_numpy(wrong)).flatten()
    said = clean_labels[found[rows, 0].clamp_min(0)]
    assert ((said == truth[rows]) & (found[rows, 0] >= 0)).float().mean() > 0.9


@pytest.mark.parametrize("share", [0.05, 0.2])
def test_planted_errors_tell_how_many_labels_are_wrong_and_how_sure_a_chance_is(share: float) -> None:
    features, labels, wrong = clouds(1_500, wrong=share, spread=0.8)
    standard = heads.standardised(features)
    smoother = Smoother.fit(standard, seed=0)
    opinion = smoother.left_out(labels, 3)
    copy = plant(labels.numpy(), opinion, seed=1)
    assert (copy.labels[copy.rows] != labels.numpy()[copy.rows]).all()
    again = smoother.left_out(torch.from_numpy(copy.labels), 3).loss().numpy()
    chance = Calibration.fit(again, copy.rows).chance(opinion.loss().numpy())
    assert chance.sum() == pytest.approx(wrong.sum(), rel=0.35)
    top = np.argsort(-opinion.loss().numpy())[: int(wrong.sum())]
    assert chance[top].mean() == pytest.approx(wrong[top].mean(), abs=0.2)


def test_raised_chances_sum_to_the_count_in_the_same_order() -> None:
    chance = np.array([0.0, 0.1, 0.3, 0.5, 0.99, 1.0], np.float32)
    found = raised(chance, 4.0)
    assert found.sum() == pytest.approx(4.0, abs=1e-3)
    assert (np.diff(found) >= 0).all()
    assert found[0] == 0.0
    odds = found[1:4] / (1 - found[1:4]) / (chance[1:4] / (1 - chance[1:4]))
    assert np.ptp(odds) < 1e-3 * odds[0]
    assert raised(chance, 2.0) is chance


def test_merged_opinions_are_the_mean_probability() -> None:
    first, second = torch.randn(20, 4).log_softmax(1), torch.randn(20, 4).log_softmax(1)
    labels = torch.arange(20) % 4
    merged = heads.merged([Opinion.of(first, labels), Opinion.of(second, labels)], labels)
    mean = (first.exp() + second.exp()) / 2
    expected = Opinion.of(mean.log(), labels)
    torch.testing.assert_close(merged.own, expected.own)
    torch.testing.assert_close(merged.log_shares, expected.log_shares)
    assert torch.equal(merged.classes, expected.classes)


def test_patches_tell_stripes_apart_without_labels() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(120) % 2
    pixels = torch.randint(0, 90, (120, 1, 16, 16), generator=generator)
    pixels[labels == 0, :, :, ::4] += 120
    pixels[labels == 1, :, ::4, :] += 120
    flipped = torch.rand(120, generator=generator) < 0.1
    given = torch.where(flipped, 1 - labels, labels)
    features = patch_features(pixels.to(torch.uint8), seed=0)
    assert features.mean(0).abs().max() < 1e-3
    loss = Smoother.fit(features, seed=0).left_out(given, 2).loss()
    assert roc_auc_score(flipped, loss) > 0.98


def test_words_tell_subjects_apart_without_labels() -> None:
    generator = np.random.default_rng(0)
    subjects = (["river", "bridge", "water", "boat", "shore"], ["oven", "bread", "flour", "salt", "yeast"])
    labels = torch.arange(120) % 2
    texts = [
        " ".join(generator.choice(subjects[label], 4)) + f" and the only{number}"
        for number, label in enumerate(labels.tolist())
    ]
    flipped = torch.from_numpy(generator.random(120) < 0.1)
    features = word_features(texts, seed=0)
    assert features is not None
    torch.testing.assert_close(features.norm(dim=1), torch.ones(120))
    loss = Smoother.fit(features, seed=0).left_out(torch.where(flipped, 1 - labels, labels), 2).loss()
    assert roc_auc_score(flipped, loss) > 0.98


@pytest.mark.parametrize("texts", [["one", "two", "three"], ["", " ", "…"], ["the same"] * 5])
def test_texts_that_share_no_words_have_no_features_of_words(texts: list[str]) -> None:
    features = word_features(texts, seed=0)
    assert features is None or bool(torch.isfinite(features).all())


def test_ranks_are_weighted_over_the_signals_there_are() -> None:
    first, second = np.array([1.0, 2.0, 3.0], np.float32), np.array([3.0, 2.0, 1.0], np.float32)
    mixed = ranking.combined({"a": first, "b": second}, {"a": 2.0, "b": 1.0, "absent": 5.0})
    assert mixed.tolist() == pytest.approx([(2 / 3 + 1) / 3, 2 / 3, (2 + 1 / 3) / 3])


def test_a_chance_is_read_from_the_mean_probability_of_the_left_out_models() -> None:
    first, second = -np.log(np.array([0.5, 0.9], np.float32)), -np.log(np.array([0.1, 0.9], np.float32))
    found = ranking.suspicion({"patches": first, "held_out": second, "loss": first}, ("patches", "held_out"))
    assert found.tolist() == pytest.approx([-np.log(0.3), -np.log(0.9)], rel=1e-5)


def test_a_side_that_misses_planted_errors_does_not_vote() -> None:
    planted = np.arange(200) < 20
    good = planted.astype(np.float32) + np.linspace(0, 0.9, 200, dtype=np.float32)[::-1]
    poor = np.random.default_rng(0).random(200).astype(np.float32)
    assert ranking.voting([({"patches": good, "held_out": good}, planted)]) == ("patches", "held_out")
    assert ranking.voting([({"patches": poor, "held_out": good}, planted)]) == ("held_out",)
    assert ranking.voting([({"patches": poor, "held_out": good}, planted)], by_heart=True) == ("patches", "held_out")
    assert ranking.voting([({"words": good, "held_out": poor}, planted)], by_heart=True) == ("words",)
    assert ranking.weights_of(("held_out",)).keys() == ranking.WEIGHTS.keys() - {"patches", "words"}
    assert "mirrored" not in ranking.weights_of(("patches",))
