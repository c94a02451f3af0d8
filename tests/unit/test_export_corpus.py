"""The cleaned corpus of a language model: what was dropped is gone, everything else is the same bytes."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pyarrow.parquet
import pytest
import yaml

from forwardinf_core.audits import decisions
from forwardinf_core.audits.tracing.opening import load_tracing
from forwardinf_core.cli import main
from forwardinf_core.projects.language import open_language_project
from forwardinf_core.store.decisions import Decision
from tests.unit.language_cases import TEXTS, write_project


def in_shape(folder: Path, kind: str) -> Path:
    """Return a project whose texts lie in one of the shapes, with some more columns where it has columns."""
    write_project(folder, epochs=1)
    table = pd.read_parquet(folder / "train.parquet")
    source: dict[str, object] = {"kind": kind, "path": f"train.{kind}", "id": "id", "text": "text"}
    if kind == "csv":
        table.to_csv(folder / "train.csv", index=False, lineterminator="\r\n", quoting=1)
    elif kind == "jsonl":
        lines = [
            json.dumps({"z": 1, "id": row.id, "text": row.text}, separators=(",", " : ")) for row in table.itertuples()
        ]
        (folder / "train.jsonl").write_text("\n".join(lines) + "\n\n")
    elif kind == "folder":
        source = {"kind": "folder", "path": "texts"}
        for row in table.itertuples():
            (folder / "texts" / row.source).mkdir(parents=True, exist_ok=True)
            (folder / "texts" / row.source / f"{row.id}.txt").write_text(row.text)
    elif kind == "datasets":
        import datasets

        source["path"] = "saved"
        datasets.Dataset.from_pandas(table, preserve_index=False).save_to_disk(str(folder / "saved"))
    config = yaml.safe_load((folder / "project.yaml").read_text()) | {"train": source}
    (folder / "project.yaml").write_text(yaml.safe_dump(config))
    return folder


def decide(folder: Path, **actions: str) -> None:
    project = open_language_project(folder)
    for row_id, action in actions.items():
        decisions.record(project, [Decision("tracing", "train", row_id, action, reviewer="ada")])


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl", "folder", "datasets"])
def test_dropped_texts_are_gone_and_the_shape_stays(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = in_shape(tmp_path / "p", kind)
    ids = list(load_tracing(folder).ids)
    gone, kept = ids[1], ids[2]
    project = open_language_project(folder)
    decisions.record(project, [Decision("tracing", "train", gone, "drop", reviewer="ada")])
    decisions.record(project, [Decision("tracing", "train", kept, "keep", reviewer="ada")])
    out = tmp_path / "out" if kind in ("folder", "datasets") else tmp_path / f"out.{kind}"
    assert main(["export", str(folder), "--out", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["dropped"], said["kept"], said["rows_after"]) == (1, 1, len(TEXTS) - 1)
    config = yaml.safe_load((folder / "project.yaml").read_text())
    config["train"]["path"] = out.name
    again = tmp_path / "again"
    again.mkdir()
    (again / "project.yaml").write_text(yaml.safe_dump(config))
    out.rename(again / out.name)
    found = open_language_project(again).texts
    assert list(found.ids) == [one for one in ids if one != gone]
    assert found.texts == [text for own, text in zip(ids, load_tracing(folder).texts, strict=True) if own != gone]


def test_lines_that_stay_are_the_same_bytes(tmp_path: Path) -> None:
    for kind in ("csv", "jsonl"):
        folder = in_shape(tmp_path / kind, kind)
        decide(folder, t3="drop")
        out = tmp_path / f"out.{kind}"
        assert main(["export", str(folder), "--out", str(out)]) == 0
        before = (folder / f"train.{kind}").read_bytes().splitlines(keepends=True)
        expected = [line for line in before if b'"t3"' not in line]
        assert out.read_bytes().splitlines(keepends=True) == expected
        assert len(expected) == len(before) - 1


def test_without_a_decision_a_parquet_corpus_is_the_same_file(tmp_path: Path) -> None:
    folder = in_shape(tmp_path / "p", "parquet")
    assert main(["export", str(folder), "--out", str(tmp_path / "same.parquet")]) == 0
    assert (tmp_path / "same.parquet").read_bytes() == (folder / "train.parquet").read_bytes()
    decide(folder, t0="drop")
    assert main(["export", str(folder), "--out", str(tmp_path / "less.parquet")]) == 0
    schema = pyarrow.parquet.read_schema(folder / "train.parquet")
    assert pyarrow.parquet.read_schema(tmp_path / "less.parquet").equals(schema)


def test_texts_on_which_reviewers_disagree_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = in_shape(tmp_path / "p", "parquet")
    project = open_language_project(folder)
    for who, action in (("ada", "drop"), ("bo", "keep")):
        decisions.record(project, [Decision("tracing", "train", "t0", action, reviewer=who)])
    assert main(["export", str(folder), "--dry-run", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["dropped"], said["disputed"], said["out"]) == (0, 1, None)
    assert main(["export", str(folder), "--reviewer", "ada", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dropped"] == 1


def test_what_cannot_be_exported_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = in_shape(tmp_path / "p", "parquet")
    assert main(["export", str(folder), "--format", "cleanlab"]) == 2
    assert "exported as they came in" in capsys.readouterr().err
    decide(folder, **{f"t{n}": "drop" for n in range(len(TEXTS))})
    assert main(["export", str(folder)]) == 2
    assert "Every text was dropped" in capsys.readouterr().err
