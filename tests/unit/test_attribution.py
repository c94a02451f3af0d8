"""An open project asked about its predictions: the planted rows are found, answers are kept, nothing is recomputed."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from forwardinf_core.audits import attribution
from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.methods import STEPS_OF_SCOPE, method_named, method_names
from forwardinf_core.audits.opening import load_audit
from forwardinf_core.audits.overview import summarise
from forwardinf_core.errors import AuditError, DataError, ModelError
from forwardinf_core.store.runs import list_runs

PREVIEW_ATOL = 1e-5  # scores are about 1e-2; the preview reads outputs kept in float32


def copies_of(audit: Audit) -> list[tuple[str, int]]:
    """Return (test query, training position) of every planted copy whose test row the model gets right."""
    pairs = []
    for position, row_id in enumerate(audit.train_ids):
        said = audit.planted(position)
        if said.startswith("Planted copy of test row "):
            query = f"test:{said.removeprefix('Planted copy of test row ')}"
            if audit.predict(query).prediction == audit.train_labels[position]:
                pairs.append((query, position))
        assert row_id
    assert len(pairs) >= 8
    return pairs


@pytest.mark.parametrize("method", ["head", "tail"])
def test_a_planted_copy_of_the_query_is_among_the_most_helpful_rows(digits_audit: Audit, method: str) -> None:
    """A fitted copy has a small gradient, so rows of the same class with larger ones may be ahead of it."""
    shares = []
    for query, position in copies_of(digits_audit):
        scores = digits_audit.attribute(query, method=method).scores
        assert scores.score[position] > 0
        shares.append(float((scores.score > scores.score[position]).mean()))
    assert np.median(shares) < 0.03


@pytest.mark.parametrize("method", ["head", "head-sgd", "tail", "tail-ekfac", "full-sgd", "cascade", "forward-inf"])
def test_the_unchanged_model_scores_exactly_zero(digits_audit: Audit, method: str) -> None:
    answer = digits_audit.attribute(f"test:{digits_audit.test_ids[0]}", method=method)
    assert answer.unchanged_max_abs_score == 0.0
    assert np.isfinite(answer.scores.score).all()
    assert answer.method.loss_after != answer.method.loss_before


def test_an_answer_is_read_back_bit_equal_and_not_computed_again(digits_audit: Audit) -> None:
    query = f"test:{digits_audit.test_ids[1]}"
    first = digits_audit.attribute(query)
    before = len(list_runs(digits_audit.project))
    again = digits_audit.attribute(query)
    assert again.run_id == first.run_id
    assert len(list_runs(digits_audit.project)) == before
    assert np.array_equal(again.scores.score, first.scores.score)


@pytest.mark.parametrize("method", ["head", "tail"])
def test_the_preview_under_the_rows_own_label_is_its_score(digits_audit: Audit, method: str) -> None:
    answer = digits_audit.attribute(f"test:{digits_audit.test_ids[2]}", method=method)
    for position in (0, 7, int(answer.scores.top(1)[0])):
        under = digits_audit.candidate_scores(answer, position)
        own = int(digits_audit.train_labels[position])
        assert under.shape == (len(digits_audit.classes),)
        assert under[own] == pytest.approx(answer.scores.score[position], abs=PREVIEW_ATOL)


def test_a_cascade_keeps_both_kinds_of_scores_apart(digits_audit: Audit) -> None:
    query = f"test:{digits_audit.test_ids[0]}"
    answer, head = digits_audit.attribute(query, method="cascade"), digits_audit.attribute(query, method="head")
    full = answer.scores.score_full
    assert full is not None
    rescored = ~np.isnan(full)
    assert rescored.sum() == round(0.05 * len(full))
    assert np.allclose(answer.scores.score, head.scores.score, rtol=1e-5)


def test_several_queries_in_one_read_score_as_they_do_alone(digits_audit: Audit) -> None:
    queries = [f"test:{row_id}" for row_id in digits_audit.test_ids[3:6]]
    together = digits_audit.attribute_all(queries, method_named("tail-sgd"), None)
    alone = digits_audit.attribute_all(queries[:1], method_named("tail-sgd", seed=1), None)  # the seed plays no part
    assert np.allclose(together[0].scores.score, alone[0].scores.score, rtol=1e-4, atol=1e-7)


def test_groups_of_one_job_do_not_read_each_others_chunks(digits_audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    queries = [f"test:{row_id}" for row_id in digits_audit.test_ids[6:8]]
    monkeypatch.setattr(attribution, "GROUP", 1)
    together = digits_audit.attribute_all(queries, method_named("full-sgd", seed=1), None)  # the seed plays no part
    alone = digits_audit.attribute_all(queries[1:], method_named("full-sgd", seed=2), None)
    assert not np.array_equal(together[0].scores.score, together[1].scores.score)
    assert np.array_equal(together[1].scores.score, alone[0].scores.score)


def test_the_model_is_byte_identical_after_every_method(digits_audit: Audit) -> None:
    before = {name: value.clone() for name, value in digits_audit.model.module.state_dict().items()}
    for scope, steps in STEPS_OF_SCOPE.items():
        digits_audit.attribute(f"test:{digits_audit.test_ids[4]}", method=f"{scope}-{steps[-1]}")
    for name, value in digits_audit.model.module.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_an_uploaded_test_image_gets_the_same_prediction_and_the_same_scores(digits_audit: Audit) -> None:
    row_id = digits_audit.test_ids[0]
    image = digits_audit.test.image(0)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    query = digits_audit.add_upload(buffer.getvalue(), "five.png")
    label = int(digits_audit.test.labels[0])
    uploaded = digits_audit.attribute(query, target=label)
    known = digits_audit.attribute(f"test:{row_id}", target=label)
    assert uploaded.prediction.prediction == known.prediction.prediction
    assert uploaded.prediction.label == -1
    assert np.allclose(uploaded.scores.score, known.scores.score, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    "query", ["test:nobody", "upload:../../etc/passwd", "upload:" + "0" * 32, "", "test:", "<script>alert(1)</script>"]
)
def test_a_query_that_does_not_exist_gets_one_sentence(digits_audit: Audit, query: str) -> None:
    with pytest.raises(DataError) as failure:
        digits_audit.attribute(query)
    assert failure.value.title
    assert failure.value.hint


def test_a_class_or_method_that_does_not_exist_gets_one_sentence(digits_audit: Audit) -> None:
    with pytest.raises(DataError, match="no class 77"):
        digits_audit.attribute(f"test:{digits_audit.test_ids[0]}", target=77)
    with pytest.raises(AuditError, match="no method"):
        digits_audit.attribute(f"test:{digits_audit.test_ids[0]}", method="magic")


def test_a_name_filter_limits_what_moves(digits_audit: Audit) -> None:
    query = f"test:{digits_audit.test_ids[5]}"
    head = digits_audit.attribute(query, method=method_named("full-sgd", parameters="head.*"))
    same = digits_audit.attribute(query, method="head-sgd")
    assert head.unchanged_max_abs_score == 0
    assert np.corrcoef(head.scores.score, same.scores.score)[0, 1] > 0.999
    with pytest.raises(ModelError, match="No movable parameter"):
        digits_audit.attribute(query, method=method_named("full-sgd", parameters="nothing.like.this"))
    with pytest.raises(AuditError, match="cannot be limited"):
        method_named("head", parameters="head.weight")


def test_averaging_over_equal_checkpoints_keeps_the_ranking(digits_audit: Audit, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    shutil.copytree(digits_audit.folder, folder, ignore=shutil.ignore_patterns(".audit", "demo.json"))
    shutil.copytree(folder / "model", folder / "again")
    with (folder / "project.yaml").open("a") as file:
        file.write("\ncheckpoints: [model/, again/]\n")
    audit = load_audit(folder)
    query = f"test:{audit.test_ids[0]}"
    single = audit.attribute(query)
    average = audit.attribute(query, method=method_named("head", average=True))
    assert average.method.options["average"]
    assert np.array_equal(np.argsort(average.scores.score), np.argsort(single.scores.score))
    with pytest.raises(DataError, match="Averaged"):
        audit.candidate_scores(average, 0)


def test_every_method_name_is_known_and_unique() -> None:
    names = method_names()
    assert len(names) == len(set(names))
    assert all(method_named(name).name == name for name in names)


def test_the_overview_counts_what_the_predictions_say(digits_audit: Audit) -> None:
    found = summarise(digits_audit)
    said = digits_audit.predictions()
    wrong = int((said.prediction != said.label).sum())
    assert sum(pair.count for pair in found.confusions) == wrong
    assert found.accuracy == pytest.approx(1 - wrong / len(said.label))
    assert found.accuracy_interval[0] < found.accuracy < found.accuracy_interval[1]
    assert sum(line.n_train for line in found.class_lines) == found.n_train
    assert found.planted


def test_a_project_that_changed_on_disk_is_opened_anew(digits_audit: Audit) -> None:
    root = digits_audit.project.root
    assert load_audit(root) is load_audit(root)
    before = load_audit(root)
    path = Path(root / "train.parquet")
    accessed, modified = path.stat().st_atime_ns, path.stat().st_mtime_ns
    try:
        os.utime(path, ns=(accessed, modified + 1_000_000))
        assert load_audit(root) is not before
    finally:
        os.utime(path, ns=(accessed, modified))  # the demo belongs to all tests


def test_what_was_done_to_an_odd_upload_is_kept_with_it(digits_audit: Audit) -> None:
    buffer = io.BytesIO()
    frames = [Image.new("L", (8, 8), shade) for shade in (10, 200)]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    query = digits_audit.add_upload(buffer.getvalue(), "moving.gif")
    assert digits_audit.notes(query) == ("The first of 2 frames is used.",)
    assert digits_audit.notes(f"test:{digits_audit.test_ids[0]}") == ()
