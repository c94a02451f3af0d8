"""A text project from training to answers: planted rows are found, controls hold, the command line says the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.fitting import FitOptions
from forwardinf_core.audits.opening import load_audit
from forwardinf_core.audits.overview import summarise
from forwardinf_core.cli import main
from forwardinf_core.errors import DataError, ModelError, ProjectError
from forwardinf_core.jobs import run as jobs
from forwardinf_core.projects.check import check_project
from tests.unit.text_cases import COPY, PLANTED_TEXT, QUERY, WRONG_COPY, save_encoder, write_project


def fit(folder: Path, **options: object) -> dict[str, object]:
    return jobs.run_here("fit", folder, FitOptions(**options), lambda *_: None)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["head", "tail", "tail-ekfac", "full"])
def test_a_copy_of_the_query_helps_and_one_with_a_wrong_label_hurts_most(text_audit: Audit, method: str) -> None:
    answer = text_audit.attribute(f"test:{QUERY}", method=method)
    assert answer.unchanged_max_abs_score == 0
    copy, wrong = text_audit.train_ids.index(COPY), text_audit.train_ids.index(WRONG_COPY)
    assert answer.scores.bottom(1).tolist() == [wrong]
    assert answer.scores.score[copy] > 0
    assert (answer.scores.score > answer.scores.score[copy]).mean() < 0.1


def test_a_typed_text_gets_the_answer_of_the_same_test_row(text_audit: Audit) -> None:
    typed = text_audit.add_text(PLANTED_TEXT)
    known = text_audit.attribute(f"test:{QUERY}")
    found = text_audit.attribute(typed, target=known.target)
    assert found.prediction.prediction == known.prediction.prediction
    np.testing.assert_allclose(found.scores.score, known.scores.score, rtol=1e-4, atol=1e-8)
    assert text_audit.text_of(typed) == PLANTED_TEXT
    assert text_audit.characters_read(PLANTED_TEXT) == len(PLANTED_TEXT)


@pytest.mark.parametrize("text", ["a\x00b", "<b>bold</b>", "שלום עולם", "🙂", "\ud800", "x" * 200_000])
def test_any_text_can_be_asked_about(text_audit: Audit, text: str) -> None:
    answer = text_audit.attribute(text_audit.add_text(text))
    assert np.isfinite(answer.scores.score).all()


def test_what_is_no_text_is_refused_in_a_sentence(text_audit: Audit) -> None:
    for text, said in (("", "is empty"), (" \n", "is empty"), ("x" * 11_000_000, "has 10.5 MB")):
        with pytest.raises(DataError, match=said):
            text_audit.add_text(text)
    with pytest.raises(DataError, match=r"a\.txt is not text in UTF-8"):
        text_audit.add_upload(b"\xff\xfe\x00", "a.txt")
    with pytest.raises(DataError, match="These rows are texts"):
        text_audit.thumbnail("train", "0")
    with pytest.raises(ModelError, match="reads texts"):
        text_audit.shown(f"test:{QUERY}")


def test_the_overview_of_texts_counts_like_any_other(text_audit: Audit) -> None:
    found = summarise(text_audit)
    assert found.task == "text-classification"
    assert found.accuracy > 0.9
    assert found.n_train == len(text_audit.train_ids)


def test_training_ends_in_the_same_bytes_and_says_what_it_cannot_do(tmp_path: Path) -> None:
    folder = write_project(tmp_path, n_train=24, n_test=6)
    weights = folder / "model" / "model.safetensors"
    fit(folder, epochs=2, width=8)
    first = weights.read_bytes()
    weights.unlink()
    fit(folder, epochs=2, width=8)
    assert weights.read_bytes() == first
    with pytest.raises(ProjectError, match="--size 32 is given"):
        fit(folder, size=32)


def test_an_encoder_answers_with_head_tail_and_whole_network(tmp_path: Path) -> None:
    folder = write_project(tmp_path, kind="transformers", n_train=24, n_test=3)
    save_encoder(folder / "model", "bert")
    audit = load_audit(folder)
    for method in ("head", "tail", "full-diagonal"):
        answer = audit.attribute(f"test:{QUERY}", method=method)
        assert answer.unchanged_max_abs_score == 0
        assert np.isfinite(answer.scores.score).all()
        assert np.abs(answer.scores.score).max() > 0


def test_check_names_empty_and_cut_texts(tmp_path: Path) -> None:
    folder = write_project(tmp_path, kind="transformers", n_train=24, n_test=6)
    save_encoder(folder / "model", "distilbert")
    train = pd.read_parquet(folder / "train.parquet")
    train.loc[0, "question"], train.loc[1, "question"] = " ", "Who built " * 300
    train.to_parquet(folder / "train.parquet")
    report = check_project(folder)
    said = [problem.title for problem in report.problems]
    assert report.is_ready
    assert any("1 of 26 texts in train are empty: t0" in title for title in said)
    assert any("1 of 26 texts in train are longer than the 40 tokens the model reads" in title for title in said)
    assert report.forecast is not None
    assert report.forecast.tail_cache_bytes


def test_the_command_line_takes_a_text_a_file_and_a_test_row(
    text_audit: Audit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "question.txt").write_text(PLANTED_TEXT)
    found = []
    for query in (PLANTED_TEXT, str(tmp_path / "question.txt"), f"test:{QUERY}"):
        arguments = ["attribute", str(text_audit.folder), "--query", query, "--method", "head", "--target", "person"]
        assert main([*arguments, "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert {one["top"][0]["id"] for one in found} == {found[0]["top"][0]["id"]}
    assert found[0]["bottom"][0] | {"text": PLANTED_TEXT} == found[0]["bottom"][0]
    assert main(["attribute", str(text_audit.folder), "--query", " ", "--json"]) == 2
