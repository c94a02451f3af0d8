"""``trace`` and ``fit`` of language models from the command line: what is printed, written and refused."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from forwardinf_core.cli import main
from tests.unit.language_cases import TEXTS, write_project

PROMPT = "Paris is the capital of"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_project(tmp_path_factory.mktemp("sentences"))


def test_a_trace_prints_one_json_value_with_both_ends(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", str(folder), "--prompt", PROMPT, "--by", "source", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["completion"] == "France"
    assert found["top"][0]["text"] == TEXTS[0]
    assert found["top"][0]["score"] > 0
    assert all(row["score"] < 0 for row in found["bottom"])
    assert found["method"]["name"] == "linear-ekfac"
    assert {group["name"] for group in found["groups"]} == {"a", "b"}


def test_scores_hold_a_column_for_each_ranking(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.parquet"
    arguments = ["trace", str(folder), "--prompt", PROMPT, "--completion", "France", "--scores", str(out), "--top", "2"]
    assert main(arguments) == 0
    table = pd.read_parquet(out)
    assert list(table.columns) == ["id", "score", "raw", "bm25", "embedding", "overlap", "fused"]
    assert len(table) == len(TEXTS)
    assert table.id[table.score.argmax()] == "t0"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--prompt", ""], "The prompt is empty."),
        (["--prompt", "word " * 300], "the model reads 48"),
        (["--prompt", PROMPT, "--completion", ""], "has no tokens of its own"),
        (["--prompt", PROMPT, "--method", "nothing"], "There is no way of tracing called nothing"),
        (["--prompt", PROMPT, "--span", "x"], "names no tokens"),
        (["--prompt", PROMPT, "--span", "99"], "There is no token 99"),
        (["--prompt", PROMPT, "--prompt", "b", "--completion", "c"], "2 prompts and 1 completions"),
        (["--prompt", PROMPT, "--by", "nothing"], "There is no column 'nothing'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(
    folder: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trace", str(folder), *arguments]) == 2
    said = capsys.readouterr().err.strip()
    assert words in said
    assert "Traceback" not in said


def test_a_project_of_images_is_pointed_to_attribute(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = {"kind": "folder", "path": "x"}
    content = {"name": "x", "task": "image-classification", "model": {"kind": "baseline", "path": "m"}}
    (tmp_path / "project.yaml").write_text(yaml.safe_dump(content | {"train": source, "test": dict(source)}))
    assert main(["trace", str(tmp_path), "--prompt", "x"]) == 2
    assert "no language model" in capsys.readouterr().err


@pytest.mark.parametrize("task", ["causal-lm", "seq2seq-lm"])
def test_fit_trains_a_model_that_can_be_traced(task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pd.DataFrame({"text": list(TEXTS) * 4}).to_csv(tmp_path / "texts.csv", index=False)
    content = {
        "name": "x",
        "task": task,
        "model": {"kind": "baseline", "path": "model/"},
        "train": {"kind": "csv", "path": "texts.csv"},
    }
    (tmp_path / "project.yaml").write_text(yaml.safe_dump(content))
    assert main(["trace", str(tmp_path), "--prompt", "Paris"]) == 2
    assert "fit PROJECT" in capsys.readouterr().err
    assert main(["fit", str(tmp_path), "--epochs", "2", "--width", "16", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["loss"] > 0
    arguments = [
        "trace",
        str(tmp_path),
        "--prompt",
        "Paris is",
        "--completion",
        "Rome",
        "--method",
        "all-sgd",
        "--json",
    ]
    assert main(arguments) == 0
    assert len(json.loads(capsys.readouterr().out)["tokens"]) >= 1


def test_markup_and_odd_characters_in_texts_come_back_letter_by_letter(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = write_project(tmp_path / "odd", epochs=5)
    odd = ["<script>alert('x')</script> Paris", "🗼 Paris 👩‍👩‍👧", "باريس Paris", "Pa\x00ris", "", "x"]
    pd.DataFrame({"id": [str(i) for i in range(6)], "text": odd}).to_parquet(project / "train.parquet")
    arguments = [
        "trace",
        str(project),
        "--prompt",
        "Paris 🗼",
        "--completion",
        "باريس",
        "--method",
        "last-block-diagonal",
    ]
    assert main([*arguments, "--top", "6", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    shown = {row["text"] for row in (*found["top"], *found["bottom"])}
    assert shown <= set(odd)


def test_check_says_what_a_language_project_holds(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["texts"] == len(TEXTS)
    assert found["tokens"] > 30
    assert found["is_ready"]
