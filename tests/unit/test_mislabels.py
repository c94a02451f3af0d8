"""The search for wrong labels on the digits demo, whose planted errors are known."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.mislabels import networks
from forwardinf_core.audits.mislabels.finding import FindOptions, find_suspects, suspects_now
from forwardinf_core.audits.mislabels.records import Suspects
from forwardinf_core.audits.mislabels.requirements import checked_labels, notes_on
from forwardinf_core.audits.opening import load_audit
from forwardinf_core.cli import main
from forwardinf_core.datasets.views import Relabelled, Subset
from forwardinf_core.errors import DataError
from forwardinf_core.models.training import TrainingOptions
from forwardinf_core.store.runs import list_runs
from tests.unit.text_cases import WRONG_COPY


@pytest.fixture(scope="module")
def suspects(digits_audit: Audit) -> Suspects:
    return suspects_now(digits_audit)


def planted(audit: Audit) -> np.ndarray:
    return np.array([audit.planted(p).startswith("Planted wrong label") for p in range(len(audit.train_ids))])


def test_planted_wrong_labels_come_first(digits_audit: Audit, suspects: Suspects) -> None:
    wrong = planted(digits_audit)
    assert roc_auc_score(wrong, suspects.score) > 0.98
    assert wrong[suspects.ranking[:40]].mean() > 0.9
    assert {"loss", "held_out", "neighbours", "patches", "confident_learning", "mirrored_halves"} <= set(
        suspects.signals
    )
    for name, signal in suspects.signals.items():
        assert roc_auc_score(wrong, signal) > 0.9, name


def test_the_suggested_label_is_the_true_one_of_most_planted_errors(digits_audit: Audit, suspects: Suspects) -> None:
    truth = digits_audit.train.labels_in("true_label")
    wrong = planted(digits_audit)
    assert (suspects.suggested[wrong] == truth[wrong]).mean() > 0.8
    assert (suspects.suggested[~wrong] == truth[~wrong]).mean() > 0.97


def test_the_record_keeps_what_a_review_needs(digits_audit: Audit, suspects: Suspects) -> None:
    n = len(digits_audit.train_ids)
    assert suspects.score.dtype == np.float32
    assert suspects.score.shape == suspects.label.shape == suspects.expected_precision.shape == (n,)
    assert suspects.likely.shape == suspects.likely_share.shape == (n, 9)
    assert (np.diff(suspects.likely_share, axis=1) <= 0).all()
    assert ((suspects.expected_precision >= 0) & (suspects.expected_precision <= 1)).all()
    assert suspects.n_wrong_by_class.sum() == pytest.approx(suspects.n_wrong, rel=1e-4)
    first = int(suspects.ranking[0])
    assert len(suspects.reasons(first)) >= 2
    assert first not in suspects.neighbours(first)
    assert len(suspects.neighbours(first)) == 30


def test_a_search_is_stored_and_read_back(digits_audit: Audit, suspects: Suspects) -> None:
    before = len(list_runs(digits_audit.project, "mislabels"))
    again = suspects_now(digits_audit)
    assert again.run_id == suspects.run_id
    assert np.array_equal(again.score, suspects.score)
    assert len(list_runs(digits_audit.project, "mislabels")) == before
    assert find_suspects(digits_audit, FindOptions(seed=77)) is None


def test_the_command_writes_one_line_a_training_row(digits_audit: Audit, suspects: Suspects, tmp_path, capsys) -> None:
    out = tmp_path / "scores.parquet"
    assert main(["mislabels", str(digits_audit.folder), "--scores", str(out), "--json"]) == 0
    table = pd.read_parquet(out)
    assert list(table.columns) == ["id", "score", "label", "suggested_label"]
    assert table["id"].tolist() == list(digits_audit.train_ids)
    assert table["label"].tolist() == digits_audit.train.column("label").tolist()
    assert np.array_equal(table["score"].to_numpy(), suspects.score)
    assert '"n_wrong"' in capsys.readouterr().out


def test_a_search_is_ranked_by_any_of_its_signals_without_a_new_one(digits_audit: Audit, suspects: Suspects) -> None:
    by_loss = suspects.by("loss")
    assert by_loss.run_id == suspects.run_id
    assert np.array_equal(by_loss.score, suspects.signals["loss"])
    assert by_loss.ranking[0] == suspects.signals["loss"].argmax()
    assert suspects.by("default") is suspects
    with pytest.raises(DataError, match="no signal 'magic'"):
        suspects.by("magic")


def test_an_unknown_method_gets_a_sentence_with_the_ones_there_are(digits_audit: Audit, capsys) -> None:
    assert main(["mislabels", str(digits_audit.folder), "--method", "magic"]) == 2
    assert "held_out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [([3] * 50, "Every training row is labelled"), ([0, 1], "2 rows, too few"), ([0, 1] * 10 + [-1], "have no label")],
)
def test_rows_that_cannot_be_judged_get_a_sentence(digits_audit: Audit, labels: list[int], sentence: str) -> None:
    rows = Relabelled(Subset(digits_audit.train, np.arange(len(labels))), labels)
    with pytest.raises(DataError, match=sentence):
        checked_labels(rows)


def test_a_class_with_one_row_is_named(digits_audit: Audit) -> None:
    labels = np.array([0, 1] * 10 + [7])
    rows = Relabelled(Subset(digits_audit.train, np.arange(len(labels))), labels)
    (note,) = notes_on(rows, labels, np.zeros(len(labels), np.float32))
    assert "‘7’" in note
    assert checked_labels(rows).tolist() == labels.tolist()


def test_rows_whose_labels_are_mostly_wrong_get_a_warning(digits_audit: Audit) -> None:
    notes = notes_on(digits_audit.train, digits_audit.train_labels, np.full(len(digits_audit.train_ids), 0.8))
    assert any("80% of the labels look wrong" in note for note in notes)


@pytest.mark.parametrize(
    ("method", "sentence"),
    [
        ("mirrored", "needs trusted rows"),
        ("words", "is for texts"),
        ("aum", "needs checkpoints"),
        ("networks", "computed on request"),
    ],
)
def test_a_signal_that_needs_more_says_what(digits_audit: Audit, capsys, method: str, sentence: str) -> None:
    assert main(["mislabels", str(digits_audit.folder), "--method", method]) == 2
    assert sentence in capsys.readouterr().err


@pytest.fixture
def project_with_trusted(digits_audit: Audit, tmp_path: Path) -> Path:
    """Return the digits with 120 trusted rows: test rows, ten with a wrong label and five that are training rows."""
    folder = tmp_path / "project"
    shutil.copytree(digits_audit.folder, folder, ignore=shutil.ignore_patterns(".audit", "demo.json"))
    test, train = pd.read_parquet(folder / "test.parquet"), pd.read_parquet(folder / "train.parquet")
    trusted = test.iloc[:115].copy()
    trusted.loc[trusted.index[:10], "label"] = (trusted["label"].iloc[:10] + 1) % 10
    shared = train[train["planted_duplicate_of"].isna() & ~train["planted_wrong"]].iloc[:5]
    pd.concat([trusted, shared[["id", "image", "label"]]]).to_parquet(folder / "trusted.parquet")
    with (folder / "project.yaml").open("a") as file:
        file.write("\ntrusted: {kind: parquet, path: trusted.parquet}\ncheckpoints: [model/]\n")
    return folder


def test_trusted_rows_are_used_and_what_is_wrong_with_them_is_said(project_with_trusted: Path) -> None:
    audit = load_audit(project_with_trusted)
    found = suspects_now(audit)
    assert {"mirrored", "curvature", "class_groups", "aum"} <= set(found.signals)
    wrong = audit.train.column("planted_wrong").astype(bool)
    for name in ("mirrored", "curvature", "aum"):
        assert roc_auc_score(wrong, found.signals[name]) > 0.9, name
    assert roc_auc_score(wrong, found.signals["class_groups"]) > 0.8
    said = " ".join(found.notes)
    # The five, and the demo's own copies of test rows.
    assert re.search(r"\d of 120 trusted rows are training rows too", said)
    assert "trusted labels look wrong themselves" in said
    first = int(found.ranking[0])
    assert len(found.against(first))
    assert any("trusted" in reason for reason in found.reasons(first))
    truth = audit.train.labels_in("true_label")
    rows = np.flatnonzero(wrong)
    agree = [found.trusted_labels[found.against(row)[0]] == truth[row] for row in rows if len(found.against(row))]
    assert np.mean(agree) > 0.7


def test_a_wrong_label_of_a_text_is_found_by_its_words(text_audit: Audit) -> None:
    found = suspects_now(text_audit)
    assert "words" in found.signals
    assert "patches" not in found.signals
    assert found.ids[found.ranking[0]] == WRONG_COPY
    assert found.classes[found.suggested[found.ranking[0]]] == "person"


def test_networks_of_texts_are_trained_on_request(text_audit: Audit) -> None:
    found = suspects_now(text_audit, FindOptions(networks=1, retrained=2))
    for name in ("networks", "retrained"):
        assert found.ids[int(np.argmax(found.signals[name]))] == WRONG_COPY
    assert found.ids[found.ranking[0]] == WRONG_COPY


def test_networks_are_trained_on_request(digits_audit: Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "project"
    shutil.copytree(digits_audit.folder, folder, ignore=shutil.ignore_patterns(".audit", "demo.json"))
    brief = TrainingOptions(epochs=4, shift=1)
    monkeypatch.setattr(networks, "training_options", lambda *_: brief)
    found = suspects_now(load_audit(folder), FindOptions(networks=1, retrained=2))
    trained = sorted((folder / ".audit" / "caches").glob("network-*/outputs.safetensors"))
    assert len(trained) == 3
    written = [path.stat().st_mtime_ns for path in trained]
    again = suspects_now(load_audit(folder), FindOptions(networks=2, retrained=2))
    assert [path.stat().st_mtime_ns for path in trained] == written  # another search trains what is new alone
    assert len(list((folder / ".audit" / "caches").glob("network-*"))) == 4
    np.testing.assert_array_equal(again.signals["retrained"], found.signals["retrained"])
    wrong = planted(digits_audit)
    assert roc_auc_score(wrong, again.signals["networks"]) > 0.9
    assert roc_auc_score(wrong, found.signals["networks"]) > 0.9
    assert roc_auc_score(wrong, found.signals["retrained"]) > 0.9
