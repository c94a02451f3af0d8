"""Memorized rows: the score is the closed form, the reference is retraining, and words never say more than is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.context import AtOnce
from forwardinf_core.audits.head_influence import head_influence
from forwardinf_core.audits.memorization import finding
from forwardinf_core.audits.memorization.records import Memorization, sentence_of
from forwardinf_core.audits.memorization.reference import FEWEST, Reference, reference_of
from forwardinf_core.cli import main
from forwardinf_core.datasets.views import Relabelled, Subset
from forwardinf_core.errors import AuditError, DataError
from forwardinf_core.influence.curvature.ekfac import fit_ekfac
from forwardinf_core.influence.curvature.gradients import Layout, row_gradients
from forwardinf_core.influence.graph import whole_graph
from forwardinf_core.influence.head import FEATURES
from forwardinf_core.influence.network import TensorRows
from forwardinf_core.influence.objective import Classification
from forwardinf_core.influence.self_influence import tail_self_influences
from forwardinf_core.models.baseline import Baseline, BaselineConfig
from forwardinf_core.verification.retraining import Outcome, Task

RTOL = 1e-3  # float32 rotations against float32 solves


@pytest.fixture(scope="module")
def found(digits_audit: Audit) -> Memorization:
    return finding.run(digits_audit)


def test_the_tail_s_self_influence_is_the_gradient_times_its_own_solve() -> None:
    module = Baseline(BaselineConfig(n_classes=3, channels=1, size=8, width=2)).eval()
    batch = {"x": torch.randn(12, 1, 8, 8), "label": torch.randint(3, (12,))}
    network = whole_graph(module, Classification(), batch)
    ekfac = fit_ekfac(network, TensorRows(batch))
    layout = Layout.of(network.parameters)
    gradients = torch.cat(list(row_gradients(network, batch)))
    solved = layout.flatten(ekfac.solve(layout.unflatten(gradients), damping=1e-3))
    found = tail_self_influences(network, ekfac, batch, damping=1e-3)
    torch.testing.assert_close(found, (gradients * solved).sum(1), rtol=RTOL, atol=1e-6)


def test_the_reference_is_the_difference_of_means_with_and_without_a_row() -> None:
    tasks = [Task(np.asarray(rows), seed) for seed, rows in enumerate(([0, 1], [0, 2], [1, 2]))]
    logits = torch.randn(3, 3, 2)
    labels = torch.tensor([0, 1, 0])
    outcomes = [Outcome(one, labels) for one in logits]
    found = reference_of(tasks, outcomes, 3)
    chance = logits.softmax(2)[:, 0, 0].double().numpy()
    assert found.with_row[0] == pytest.approx(chance[:2].mean())
    assert found.without_row[0] == pytest.approx(chance[2])
    assert found.memorization[0] == pytest.approx(chance[:2].mean() - chance[2])
    assert found.n_with.tolist() == [2, 2, 2]


def test_a_training_that_failed_counts_on_neither_side() -> None:
    good = Outcome(torch.zeros(2, 2), torch.tensor([0, 1]))
    failed = Outcome(torch.full((2, 2), torch.nan), torch.tensor([0, 1]))
    tasks = [Task(np.asarray([0]), 0), Task(np.asarray([1]), 1), Task(np.asarray([0]), 2)]
    found = reference_of(tasks, [good, good, failed], 2)
    assert found.n_with.tolist() == [1, 1]
    assert found.memorization.tolist() == [0.0, 0.0]


def test_rows_whose_planted_wrong_label_the_model_repeats_are_memorized_most(
    digits_audit: Audit, found: Memorization
) -> None:
    wrong = np.asarray([digits_audit.planted(n).startswith("Planted wrong") for n in range(len(found.ids))])
    learnt, missed = wrong & (found.chance > 0.1), wrong & (found.chance < 0.01)
    assert learnt.sum() >= 5
    assert missed.sum() >= 5
    assert found.percentile[learnt].mean() > 95
    assert found.percentile[learnt].mean() > found.percentile[missed].mean() + 10
    assert set(np.flatnonzero(learnt)) & set(found.ranked()[:20].tolist())


def test_the_score_is_the_first_order_fall_of_the_label_s_probability(digits_audit: Audit, found: Memorization) -> None:
    place = digits_audit.workplace(AtOnce())
    head, rows = head_influence(place), place.scope("head").rows.batch(0, len(found.ids))
    assert head is not None
    own = head.on_itself(rows[FEATURES], rows["label"]).double().numpy()
    np.testing.assert_allclose(found.score, np.exp(-found.loss) * own, rtol=1e-5)
    missed = int(np.argmin(found.chance))  # wrong in spite of having been seen
    assert found.score[missed] < own[missed]


def test_a_figure_is_said_only_where_retraining_gave_it(found: Memorization) -> None:
    assert sentence_of(found, 0).startswith("Estimate:")
    n_rows = len(found.ids)
    enough, few = np.full(n_rows, FEWEST), np.full(n_rows, FEWEST - 1)
    known = Reference(np.full(n_rows, 0.97), np.full(n_rows, 0.12), np.zeros(n_rows), enough, enough)
    said = sentence_of(with_reference(found, known), 3)
    assert said.startswith("Without this row the model would give its label 12% instead of 97%")
    scarce = Reference(known.with_row, known.without_row, known.error, enough, few)
    assert sentence_of(with_reference(found, scarce), 3).startswith("Estimate:")


def with_reference(found: Memorization, reference: Reference) -> Memorization:
    parts = {name: getattr(found, name) for name in Memorization.__dataclass_fields__}
    return Memorization(**{**parts, "reference": reference})


def test_the_scores_file_has_id_and_score_of_every_row(
    digits_audit: Audit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["memorization", "demo:digits", "--top", "3", "--scores", str(tmp_path / "m.parquet"), "--json"]) == 0
    table = pd.read_parquet(tmp_path / "m.parquet")
    assert list(table.columns) == ["id", "score"]
    assert list(table["id"]) == list(digits_audit.train_ids)
    assert (table["score"] >= 0).all()
    said = json.loads(capsys.readouterr().out)
    assert len(said["top"]) == 3
    assert said["has_reference"] is False


def test_training_rows_without_a_label_are_refused_in_a_sentence(digits_audit: Audit) -> None:
    labels = digits_audit.train_labels.copy()
    labels[:2] = -1
    audit = Audit(digits_audit.project, digits_audit.model, Relabelled(digits_audit.train, labels), digits_audit.test)
    with pytest.raises(DataError, match="2 of 1312 training rows have no label"):
        finding.check_rows(audit)


def test_too_few_rows_are_refused_in_a_sentence(digits_audit: Audit) -> None:
    few = Subset(digits_audit.train, np.arange(5))
    with pytest.raises(DataError, match="too few"):
        finding.check_rows(Audit(digits_audit.project, digits_audit.model, few, digits_audit.test))


def test_an_unknown_method_is_answered_with_the_methods_there_are() -> None:
    with pytest.raises(AuditError, match="no method ‘body’"):
        finding.scope_named("body")
