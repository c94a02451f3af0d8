"""Exports: the input's own shape with nothing changed but decided rows, whole or not at all, patches that replay."""

from __future__ import annotations

import csv
import errno
import io
import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.decisions import record
from forwardinf_core.datasets.opening import open_image_rows, open_text_rows
from forwardinf_core.datasets.source import RowSource
from forwardinf_core.errors import AuditError, DataError, DiskFullError, StoreError
from forwardinf_core.reports.exports import exporting, own_shape
from forwardinf_core.reports.exports.changes import changes_of, difference
from forwardinf_core.reports.exports.patch import changes_of_patch, read_patch
from forwardinf_core.reports.exports.sheets import harmless
from forwardinf_core.store.decisions import Decision

NAMES = ("cat", "dog", "owl")
LABELS = [0, 1, 2, 0, 1, 2, 0, 1]
IDS = [f"r{number}" for number in range(8)]


def png(number: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((4, 4), number * 20, np.uint8)).save(out, "PNG")
    return out.getvalue()


@dataclass
class FakeProject:
    root: Path
    config: SimpleNamespace

    @property
    def audit_dir(self) -> Path:
        return self.root / ".audit"


def opened(root: Path, source: RowSource, classes: tuple[str, ...] = NAMES, *, text: bool = False) -> Audit:
    rows = (open_text_rows if text else open_image_rows)(source, root=root, classes=classes)
    project = FakeProject(root, SimpleNamespace(train=source))
    return cast("Audit", SimpleNamespace(project=project, train=rows, classes=classes, project_name="x"))


@pytest.fixture(autouse=True)
def own_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORWARDINF_DATABASE_URL", raising=False)


def decide(audit: Audit, *ids: str) -> None:
    """Relabel the second row named to owl, drop the third, keep the first."""
    keep, relabel, drop = ids
    made = [("keep", keep, None), ("relabel", relabel, 2), ("drop", drop, None)]
    record(audit.project, [Decision("mislabels", "train", row, action, label, "Ann") for action, row, label in made])


def parquet_project(root: Path, files: int = 1) -> Audit:
    kind = pa.dictionary(pa.int8(), pa.string())
    table = pa.table(
        {
            "id": IDS,
            "image": [png(number) for number in range(8)],
            "label": pa.array(LABELS, pa.int8()),
            "label_name": pa.array([NAMES[code] for code in LABELS]).cast(kind),
            "note": ["=1+1", None, "c", "d", "e", "f", "g", "h"],
        }
    ).replace_schema_metadata({"made": "by a test"})
    path = "train.parquet" if files == 1 else "train"
    if files > 1:
        (root / path).mkdir()
    for number in range(files):
        part = table.slice(number * 8 // files, 8 // files)
        pq.write_table(part, root / path / f"{number}.parquet" if files > 1 else root / path, row_group_size=3)
    return opened(root, RowSource(kind="parquet", path=path))


def test_parquet_comes_back_with_its_schema_and_only_decided_rows_changed(tmp_path: Path) -> None:
    audit = parquet_project(tmp_path)
    decide(audit, "r0", "r1", "r4")
    out = exporting.export(audit, "parquet", tmp_path / "clean.parquet", exporting.changes_for(audit))
    before, after = pq.read_table(tmp_path / "train.parquet"), pq.read_table(out)
    assert after.schema.equals(before.schema, check_metadata=True)
    expected = before.to_pylist()
    expected[1] |= {"label": 2, "label_name": "owl"}
    del expected[4]
    assert after.to_pylist() == expected
    sizes = [pq.ParquetFile(out).metadata.row_group(group).num_rows for group in range(3)]
    assert sizes == [3, 2, 2]


def test_a_parquet_file_without_a_change_is_the_same_bytes(tmp_path: Path) -> None:
    audit = parquet_project(tmp_path, files=2)
    decide(audit, "r0", "r1", "r2")
    out = exporting.export(audit, "parquet", tmp_path / "clean", exporting.changes_for(audit))
    assert (out / "1.parquet").read_bytes() == (tmp_path / "train" / "1.parquet").read_bytes()
    assert pq.read_table(out).column("id").to_pylist() == ["r0", "r1", *IDS[3:]]


CSV = (
    b'\xef\xbb\xbfid,path,"label",note\r\n'
    b'r0,a.png,cat,"two\r\nlines, and ""quotes"""\r\n'
    b"r1,b.png,dog,plain\n"
    b"\r\n"
    b'"r2",c.png,"cat",\r\n'
    b"r3,d.png,owl,last"
)


def csv_project(root: Path) -> Audit:
    (root / "rows.csv").write_bytes(CSV)
    for number, name in enumerate("abcd"):
        (root / f"{name}.png").write_bytes(png(number))
    return opened(root, RowSource(kind="csv", path="rows.csv", id="id", image="path", label="label"))


def test_csv_lines_that_are_not_decided_are_the_same_bytes(tmp_path: Path) -> None:
    audit = csv_project(tmp_path)
    decide(audit, "r0", "r2", "r1")
    out = exporting.export(audit, "csv", tmp_path / "clean.csv", exporting.changes_for(audit))
    expected = CSV.replace(b'"r2",c.png,"cat"', b'"r2",c.png,"owl"').replace(b"r1,b.png,dog,plain\n", b"")
    assert out.read_bytes() == expected


def test_jsonl_lines_that_are_not_decided_are_the_same_bytes(tmp_path: Path) -> None:
    lines = [
        f'{{"text": "é {row}",  "label" : "{NAMES[code]}", "id": "{row}"}}'
        for row, code in zip(IDS, LABELS, strict=True)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    audit = opened(tmp_path, RowSource(kind="jsonl", path="rows.jsonl"), text=True)
    decide(audit, "r0", "r1", "r4")
    out = exporting.export(audit, "jsonl", tmp_path / "clean.jsonl", exporting.changes_for(audit))
    found = out.read_text(encoding="utf-8").splitlines()
    assert [found[0], *found[2:]] == [lines[0], *lines[2:4], *lines[5:], ""]
    assert json.loads(found[1]) == {"text": "é r1", "label": "owl", "id": "r1"}


def folder_project(root: Path) -> Audit:
    for number, code in enumerate(LABELS):
        path = root / "rows" / NAMES[code] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(number))
    (root / "rows" / "owl" / "1.png").write_bytes(png(9))  # the name that a relabelled row would take
    return opened(root, RowSource(kind="folder", path="rows"))


@pytest.mark.parametrize("copy", [False, True])
def test_class_folders_hold_the_same_files_with_relabelled_ones_moved(tmp_path: Path, copy: bool) -> None:
    audit = folder_project(tmp_path)
    decide(audit, "cat/0.png", "dog/1.png", "owl/5.png")
    out = exporting.export(audit, "folder", tmp_path / "clean", exporting.changes_for(audit), copy=copy)
    found = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*.png")}
    expected = {row: (tmp_path / "rows" / row).read_bytes() for row in audit.train.ids}
    expected["owl/1-2.png"] = expected.pop("dog/1.png")
    del expected["owl/5.png"]
    assert found == expected
    linked = (out / "cat" / "0.png").stat().st_ino == (tmp_path / "rows" / "cat" / "0.png").stat().st_ino
    assert linked is not copy


def test_a_datasets_folder_keeps_its_features_and_its_other_splits(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features(
        {"id": datasets.Value("string"), "image": datasets.Image(), "label": datasets.ClassLabel(names=list(NAMES))}
    )
    pictures = [{"bytes": png(number), "path": None} for number in range(8)]
    made = datasets.Dataset.from_dict({"id": IDS, "image": pictures, "label": LABELS}, features=features)
    datasets.DatasetDict({"train": made, "test": made.select([0])}).save_to_disk(str(tmp_path / "ds"))
    audit = opened(tmp_path, RowSource(kind="datasets", path="ds", split="train"))
    decide(audit, "r0", "r1", "r4")
    out = exporting.export(audit, "datasets", tmp_path / "clean", exporting.changes_for(audit))
    found = datasets.load_from_disk(str(out))
    assert found["train"].features == features
    assert found["train"]["label"][:] == [0, 2, 2, 0, 2, 0, 1]
    plain = found["train"].cast_column("image", datasets.Image(decode=False))
    assert [one["bytes"] for one in plain["image"]] == [png(number) for number in range(8) if number != 4]
    assert len(found["test"]) == 1


@pytest.mark.parametrize("kind", ["csv", "jsonl", "datasets", "folder"])
def test_rows_can_be_exported_in_another_shape_and_opened_again(tmp_path: Path, kind: str) -> None:
    audit = parquet_project(tmp_path)
    decide(audit, "r0", "r1", "r4")
    named = exporting.format_named(kind)
    out = exporting.export(audit, named, exporting.suggested_target(audit, named), exporting.changes_for(audit))
    ids = [row for row in IDS if row != "r4"]
    labels = [2 if row == "r1" else code for row, code in zip(IDS, LABELS, strict=True) if row != "r4"]
    if kind in ("csv", "jsonl"):
        content = out.read_text()
        rows = (
            list(csv.DictReader(io.StringIO(content)))
            if kind == "csv"
            else [json.loads(line) for line in content.splitlines()]
        )
        assert [row["id"] for row in rows] == ids
        assert [int(row["label"]) for row in rows] == labels
        assert rows[1]["label_name"] == "owl"
        return
    again = opened(out.parent, RowSource(kind=kind, path=out.name))  # type: ignore[arg-type]
    found = dict(zip(again.train.ids, again.train.labels.tolist(), strict=True))
    names = {f"{NAMES[code]}/{row}.png": code for row, code in zip(ids, labels, strict=True)}
    assert found == (names if kind == "folder" else dict(zip(ids, labels, strict=True)))


def test_a_formula_in_the_data_or_in_a_comment_is_made_harmless(tmp_path: Path) -> None:
    audit = parquet_project(tmp_path)
    out = exporting.export(audit, "csv", tmp_path / "clean.csv", exporting.changes_for(audit))
    assert next(csv.DictReader(out.open()))["note"] == "'=1+1"
    cells = ["=1", "+1", "-1", "@x", "\tx", "\rx", "  =1", "＝1"]
    assert all(str(harmless(cell)).startswith("'") for cell in cells)
    assert [harmless(cell) for cell in (-1.5, "a=1", "", None)] == [-1.5, "a=1", "", None]


def test_without_decisions_an_export_is_a_copy(tmp_path: Path) -> None:
    audit = parquet_project(tmp_path)
    changes = exporting.changes_for(audit)
    assert not changes
    out = exporting.export(audit, "parquet", tmp_path / "clean.parquet", changes)
    assert out.read_bytes() == (tmp_path / "train.parquet").read_bytes()


def test_the_dry_run_says_what_would_change_and_what_is_left_alone(tmp_path: Path) -> None:
    audit = parquet_project(tmp_path)
    decide(audit, "r0", "r1", "r4")
    more = [
        ("keep", "r5", None, "Ann"),
        ("drop", "r5", None, "Bob"),
        ("unsure", "r6", None, "Bob"),
        ("drop", "r9", None, "Bob"),
    ]
    record(audit.project, [Decision("mislabels", "train", row, a, label, who) for a, row, label, who in more])
    found = difference(audit.train, exporting.changes_for(audit), NAMES)
    assert (found.rows_before, found.rows_after, found.relabelled, found.dropped) == (8, 7, 1, 1)
    assert (found.kept, found.unsure, found.disputed, found.gone) == (1, 1, 1, 1)
    assert found.pairs == (("dog", "owl", 1),)
    assert found.lines == (("r1", "dog", "owl"), ("r4", "dog", "(dropped)"))
    bobs = exporting.changes_for(audit, "Bob")
    assert bobs.drop == {5}
    with pytest.raises(DataError, match="no decisions by 'Carl'"):
        exporting.changes_for(audit, "Carl")


def test_a_patch_replayed_on_a_fresh_copy_gives_the_same_rows_as_the_export(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    audit, fresh = parquet_project(tmp_path / "one"), parquet_project(tmp_path / "two")
    decide(audit, "r0", "r1", "r4")
    changes = exporting.changes_for(audit)
    patch = exporting.export(audit, "patch", tmp_path / "patch.json", changes)
    exported = exporting.export(audit, "parquet", tmp_path / "clean.parquet", changes)
    original = (tmp_path / "two" / "train.parquet").read_bytes()
    replayed = changes_of_patch(fresh, read_patch(patch))
    kept = exporting.apply_in_place(fresh, replayed)
    assert kept.read_bytes() == original
    assert (tmp_path / "two" / "train.parquet").read_bytes() == exported.read_bytes()
    again = opened(tmp_path / "two", RowSource(kind="parquet", path="train.parquet"))
    done = changes_of_patch(again, read_patch(patch))
    assert not done  # applied twice changes nothing
    assert done.gone == ("r4",)


def test_a_patch_for_other_data_is_refused(tmp_path: Path) -> None:
    audit = parquet_project(tmp_path)
    decide(audit, "r0", "r1", "r4")
    patch = exporting.export(audit, "patch", tmp_path / "patch.json", exporting.changes_for(audit))
    content = json.loads(patch.read_text())
    content["decisions"][0]["label"] = "owl"
    patch.write_text(json.dumps(content))
    with pytest.raises(DataError, match="1 rows have another label than when they were decided: r0"):
        changes_of_patch(audit, read_patch(patch))
    content["decisions"][1]["new_label"] = "horse"
    patch.write_text(json.dumps(content))
    with pytest.raises(DataError, match="classes that this project does not have: horse"):
        changes_of_patch(audit, read_patch(patch))


@pytest.mark.parametrize("content", ["", "[]", '{"format": "x"}', '{"format": "forward-inf-decisions", "version": 1}'])
def test_a_file_that_is_no_patch_is_one_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "patch.json").write_text(content)
    with pytest.raises(DataError):
        read_patch(tmp_path / "patch.json")


def test_a_target_that_exists_or_may_not_be_written_is_one_sentence(tmp_path: Path) -> None:
    audit = parquet_project(tmp_path)
    changes = exporting.changes_for(audit)
    (tmp_path / "there").write_text("mine")
    with pytest.raises(StoreError, match="exists already"):
        exporting.export(audit, "parquet", tmp_path / "there", changes)
    assert (tmp_path / "there").read_text() == "mine"
    with pytest.raises(StoreError, match="no folder"):
        exporting.export(audit, "parquet", tmp_path / "nowhere" / "x.parquet", changes)


def test_a_full_disk_leaves_nothing_and_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audit = folder_project(tmp_path)
    put, count = own_shape.put, iter(range(3))

    def full(source: Path, goal: Path, *, copy: bool) -> None:
        if next(count, None) is None:
            raise OSError(errno.ENOSPC, "no space left")
        put(source, goal, copy=copy)

    monkeypatch.setattr(own_shape, "put", full)
    (tmp_path / "out").mkdir()
    with pytest.raises(DiskFullError, match="disk is full"):
        exporting.export(audit, "folder", tmp_path / "out" / "clean", exporting.changes_for(audit))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_class_name_that_is_a_path_leads_nowhere_else(tmp_path: Path) -> None:
    assert own_shape.safe_name("../../etc/passwd") == "_.._etc_passwd"
    assert own_shape.safe_name("..") == "_"
    assert own_shape.safe_name("a/b") == "a_b"


def test_names_that_belong_to_another_column_are_left_alone(tmp_path: Path) -> None:
    table = pa.table({"id": IDS, "image": [png(n) for n in range(8)], "label": LABELS, "noisy": [*LABELS[1:], 0]})
    table = table.append_column("label_name", pa.array([NAMES[code] for code in LABELS]))
    pq.write_table(table, tmp_path / "train.parquet")
    audit = opened(tmp_path, RowSource(kind="parquet", path="train.parquet", label="noisy"))
    record(audit.project, [Decision("mislabels", "train", "r0", "relabel", 0, "Ann")])
    out = exporting.export(audit, "parquet", tmp_path / "clean.parquet", exporting.changes_for(audit))
    expected = table.to_pylist()
    expected[0]["noisy"] = 0
    assert pq.read_table(out).to_pylist() == expected


def test_errors_of_this_module_are_sentences_for_people(tmp_path: Path) -> None:
    audit = parquet_project(tmp_path)
    with pytest.raises(AuditError, match="no format 'xls'"):
        exporting.format_named("xls")
    assert changes_of(audit.train, SimpleNamespace(outcomes=dict, disagreements=list), None).decided == {}  # type: ignore[arg-type]
