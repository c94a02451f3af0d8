"""Text rows from every kind of source: kept as they are stored, whatever they hold."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from forwardinf_core.datasets.opening import open_rows, open_text_rows
from forwardinf_core.datasets.rows import UNLABELLED, TextRows, images_of, texts_of
from forwardinf_core.datasets.source import RowSource
from forwardinf_core.datasets.views import Relabelled, Subset
from forwardinf_core.errors import DataError, ProjectError
from forwardinf_core.projects.schema import parse_config

TEXTS = [
    "Who wrote Hamlet ?",
    "",
    "a\x00b",
    "<script>alert(1)</script>",
    "שלום עולם",
    'two\nlines, "quoted"',
    "🙂 x",
    "007",
]
LABELS = ["human", "entity", "entity", "code", "human", "code", "entity", "code"]


def opened(root: Path, kind: str, path: str, **columns: str) -> TextRows:
    return open_text_rows(RowSource(kind=kind, path=path, **columns), root=root, classes=None)  # type: ignore[arg-type]


def frame() -> pd.DataFrame:
    ids = [f"q{number}" for number in range(len(TEXTS))]
    return pd.DataFrame({"key": ids, "question": TEXTS, "label": LABELS})


def written(root: Path, kind: str) -> TextRows:
    """Write the texts as a source of some kind and open it."""
    table, name = frame(), f"rows.{kind}"
    if kind == "parquet":
        table.to_parquet(root / name)
    elif kind == "csv":
        table.to_csv(root / name, index=False)
    elif kind == "jsonl":
        (root / name).write_text("\n".join(json.dumps(row) for row in table.to_dict("records")), encoding="utf-8")
    else:
        import datasets

        datasets.Dataset.from_pandas(table).save_to_disk(str(root / name))
    return opened(root, kind, name, id="key", text="question")


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl", "datasets"])
def test_texts_come_back_exactly_as_they_were_written(tmp_path: Path, kind: str) -> None:
    rows = written(tmp_path, kind)
    assert [rows.text(position) for position in range(len(rows))] == TEXTS
    assert [rows.classes[label] for label in rows.labels] == LABELS
    assert rows.payload(4) == TEXTS[4].encode()
    assert rows.columns == ("key", "label")
    assert rows.position("q3") == 3


def test_equal_content_has_an_equal_fingerprint_from_any_source(tmp_path: Path) -> None:
    assert len({written(tmp_path, kind).fingerprint for kind in ("parquet", "csv", "jsonl", "datasets")}) == 1


def test_a_folder_of_class_folders_holds_one_text_a_file(tmp_path: Path) -> None:
    for label, text in (("pos", "Wunderbar"), ("neg", "\ufeffschlecht")):
        (tmp_path / "train" / label).mkdir(parents=True)
        (tmp_path / "train" / label / "1.txt").write_text(text, encoding="utf-8")
    rows = opened(tmp_path, "folder", "train")
    assert list(rows.ids) == ["neg/1.txt", "pos/1.txt"]
    assert [rows.text(0), rows.text(1)] == ["schlecht", "Wunderbar"]
    assert rows.classes == ("neg", "pos")
    (tmp_path / "train" / "pos" / "1.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"pos/1\.txt of train is not text in UTF-8"):
        rows.text(1)


def test_rows_need_no_label(tmp_path: Path) -> None:
    pd.DataFrame({"text": ["one", None]}).to_parquet(tmp_path / "a.parquet")
    rows = opened(tmp_path, "parquet", "a.parquet")
    assert rows.labels.tolist() == [UNLABELLED, UNLABELLED]
    assert rows.classes == ()
    assert rows.text(1) == ""


def test_a_text_of_ten_megabytes_is_a_text_like_any_other(tmp_path: Path) -> None:
    long = "word " * 2_000_000
    table = pd.DataFrame({"text": [long, "short"]})
    table.to_csv(tmp_path / "a.csv", index=False)
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in (long, "short")))
    for kind in ("csv", "jsonl"):
        rows = opened(tmp_path, kind, f"a.{kind}")
        assert len(rows.text(0)) == len(long)
        assert rows.text(1) == "short"


@pytest.mark.parametrize(
    ("column", "said"), [([1, 2], "holds int, not a text"), ([b"\xff", b"ok"], "is not text in UTF-8")]
)
def test_what_is_no_text_gets_one_sentence_with_its_row(tmp_path: Path, column: list[object], said: str) -> None:
    pyarrow.parquet.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
    rows = opened(tmp_path, "parquet", "a.parquet")
    with pytest.raises(DataError, match=f"Row 0 of a.parquet.*{said}"):
        rows.text(0)


def test_a_missing_text_column_is_named_with_those_there_are(tmp_path: Path) -> None:
    pd.DataFrame({"question": ["one"]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match="No column holds the texts") as failure:
        opened(tmp_path, "parquet", "a.parquet")
    assert "question" in failure.value.hint


def test_views_of_texts_are_texts_and_no_images(tmp_path: Path) -> None:
    rows = written(tmp_path, "parquet")
    some = Relabelled(Subset(rows, [4, 0]), [1, 1])
    assert [some.text(0), some.text(1)] == [TEXTS[4], TEXTS[0]]
    assert texts_of(some).text(0) == TEXTS[4]
    assert np.array_equal(some.digests, rows.digests[[4, 0]])
    with pytest.raises(DataError, match="These rows are texts"):
        images_of(some)


def test_rows_are_opened_as_what_the_task_needs(tmp_path: Path) -> None:
    frame().to_parquet(tmp_path / "a.parquet")
    source = RowSource(kind="parquet", path="a.parquet", text="question")
    assert open_rows(source, "text", root=tmp_path, classes=None).content == "text"
    with pytest.raises(DataError, match="No column holds the images"):
        open_rows(source, "image", root=tmp_path, classes=None)


def test_a_source_names_the_column_its_task_reads() -> None:
    source = {"kind": "csv", "path": "a.csv", "text": "question"}
    config = {
        "name": "a",
        "task": "image-classification",
        "model": {"kind": "baseline", "path": "model/"},
        "train": source,
        "test": source,
    }
    with pytest.raises(ProjectError, match=r"^project.yaml: train\.text is given, and rows of image-classification"):
        parse_config(config, "project.yaml")
