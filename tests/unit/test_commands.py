"""The command line as a person or a script uses it: keys, files, exit codes, one sentence for every mistake."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from forwardinf_core.audits.audit import Audit
from forwardinf_core.cli import main


@pytest.fixture
def project(digits_audit: Audit, tmp_path: Path) -> Path:
    """Return a copy of the digits demo that a test may spoil, without its caches."""
    folder = tmp_path / "project"
    shutil.copytree(digits_audit.folder, folder, ignore=shutil.ignore_patterns(".audit", "demo.json"))
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Return exit code, standard output and standard error of a command."""
    capsys.readouterr()
    code = main(arguments)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_attribute_prints_the_agreed_json(digits_audit: Audit, capsys: pytest.CaptureFixture[str]) -> None:
    query = f"test:{digits_audit.test_ids[0]}"
    code, out, _ = run(capsys, "attribute", "demo:digits", "--query", query, "--method", "head", "--top", "4", "--json")
    found = json.loads(out)
    assert code == 0
    assert {"run_id", "query", "method", "controls", "seconds", "top", "bottom"} <= found.keys()
    assert {"prediction", "confidence", "target", "loss_before", "loss_after"} <= found["query"].keys()
    assert found["controls"]["unchanged_max_abs_score"] == 0
    assert {"damping", "rise", "step", "scope", "direction", "seed"} <= found["method"].keys()
    for end in ("top", "bottom"):
        assert len(found[end]) == 4
        assert {"id", "score", "percentile", "label", "loss"} <= found[end][0].keys()
    assert found["top"][0]["score"] > 0 > found["bottom"][0]["score"]


def test_scores_hold_every_training_row_and_name_the_query_when_there_are_several(
    digits_audit: Audit, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    one, several = tmp_path / "one.parquet", tmp_path / "several.parquet"
    queries = [f"test:{row_id}" for row_id in digits_audit.test_ids[:2]]
    base = ("attribute", "demo:digits", "--method", "head", "--json")
    assert run(capsys, *base, "--query", queries[0], "--scores", str(one))[0] == 0
    code, out, _ = run(capsys, *base, "--query", queries[0], "--query", queries[1], "--scores", str(several))
    assert code == 0
    assert len(json.loads(out)["queries"]) == 2
    table = pd.read_parquet(one)
    assert list(table.columns) == ["id", "score"]
    assert list(table["id"]) == list(digits_audit.train_ids)
    both = pd.read_parquet(several)
    assert list(both.columns) == ["query_id", "id", "score"]
    assert len(both) == 2 * len(table)
    assert (both["score"][: len(table)] == table["score"]).all()


def test_a_cascade_writes_the_rescored_column(
    digits_audit: Audit, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "scores.parquet"
    query = f"test:{digits_audit.test_ids[0]}"
    asked = ("--query", query, "--method", "cascade-sgd", "--scores", str(path), "--json")
    assert run(capsys, "attribute", "demo:digits", *asked)[0] == 0
    table = pd.read_parquet(path)
    assert list(table.columns) == ["id", "score", "score_full"]
    assert 0 < table["score_full"].notna().sum() < len(table)


def test_runs_lists_what_was_attributed(digits_audit: Audit, capsys: pytest.CaptureFixture[str]) -> None:
    answer = digits_audit.attribute(f"test:{digits_audit.test_ids[0]}")
    code, out, _ = run(capsys, "runs", "demo:digits", "--json")
    assert code == 0
    assert answer.run_id in {record["id"] for record in json.loads(out)}


def test_fit_writes_the_same_bytes_again(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = project / "model" / "model.safetensors"
    arguments = ("fit", str(project), "--epochs", "1", "--width", "8", "--json")
    code, out, _ = run(capsys, *arguments)
    assert code == 0
    assert json.loads(out)["model"] == str(weights)
    first = weights.read_bytes()
    weights.unlink()
    assert run(capsys, *arguments)[0] == 0
    assert weights.read_bytes() == first


def test_check_says_that_a_good_project_is_ready(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "check", str(project), "--json")
    found = json.loads(out)
    assert code == 0
    assert found["is_ready"]
    assert found["forecast"]["forward_seconds"] > 0


MISTAKES = {
    "an unknown query": (("--query", "test:nobody"), "nobody"),
    "a file that is not there": (("--query", "nothing.png"), "nothing.png"),
    "an unknown class": (("--query", "test:digit-0000", "--target", "cat"), "cat"),
    "an unknown method": (("--query", "test:digit-0000", "--method", "magic"), "magic"),
    "an impossible rise": (("--query", "test:digit-0000", "--method", "head", "--rise", "-1"), "-1"),
    "no checkpoints": (("--query", "test:digit-0000", "--method", "head", "--average"), "checkpoints"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_exit_2_one_line_and_no_traceback(
    digits_audit: Audit, capsys: pytest.CaptureFixture[str], mistake: str
) -> None:
    arguments, named = MISTAKES[mistake]
    code, out, err = run(capsys, "attribute", "demo:digits", *arguments)
    assert code == 2
    assert out == ""
    assert named in err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1


def spoil_labels(folder: Path) -> None:
    table = pd.read_parquet(folder / "train.parquet")
    table["label"] = table["label"].astype(str)
    table.loc[3, "label"] = "platypus"
    table.to_parquet(folder / "train.parquet")


def spoil_ids(folder: Path) -> None:
    table = pd.read_parquet(folder / "train.parquet")
    table.loc[1, "id"] = table.loc[0, "id"]
    table.to_parquet(folder / "train.parquet")


def spoil_rows(folder: Path) -> None:
    pd.read_parquet(folder / "train.parquet").head(0).to_parquet(folder / "train.parquet")


def spoil_column(folder: Path) -> None:
    pd.read_parquet(folder / "train.parquet").drop(columns="image").to_parquet(folder / "train.parquet")


def spoil_weights(folder: Path) -> None:
    (folder / "model" / "model.safetensors").write_bytes(b"\x80\x04not safetensors")


def spoil_key(folder: Path) -> None:
    path = folder / "project.yaml"
    path.write_text(path.read_text().replace("train:", "trian:"))


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (spoil_labels, "platypus"),
        (spoil_ids, "digit-"),
        (spoil_rows, "no rows"),
        (spoil_column, "image"),
        (spoil_weights, "model.safetensors"),
        (spoil_key, "train is missing"),
    ],
)
def test_a_spoilt_project_is_refused_in_one_sentence(
    project: Path, capsys: pytest.CaptureFixture[str], spoil: object, named: str
) -> None:
    assert callable(spoil)
    spoil(project)
    code, _, err = run(capsys, "attribute", str(project), "--query", "test:digit-0000", "--method", "head")
    assert code == 2
    assert named in err
    assert len(err.strip().splitlines()) == 1


def test_caches_of_another_model_are_not_used(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("attribute", str(project), "--query", "test:digit-0000", "--method", "head", "--json")
    first = json.loads(run(capsys, *arguments)[1])
    assert run(capsys, "fit", str(project), "--epochs", "1", "--width", "8", "--json")[0] == 0
    second = json.loads(run(capsys, *arguments)[1])
    assert first["run_id"] != second["run_id"]
    assert second["controls"]["unchanged_max_abs_score"] == 0
