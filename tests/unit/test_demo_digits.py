from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from forwardinf_core.errors import CancelledError, ProjectError
from forwardinf_core.models.rows import ModelRows
from forwardinf_core.projects.check import check_project
from forwardinf_core.projects.demos import digits
from forwardinf_core.projects.demos.digits import build_digits, demo_facts
from forwardinf_core.projects.load import Project, open_project


def quiet(fraction: float, note: str) -> None:
    pass


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("demos") / "digits"
    build_digits(folder, quiet)
    return open_project(folder)


def test_the_demo_passes_the_check_and_its_model_is_good(project: Project) -> None:
    report = check_project(project.root)
    assert report.problems == ()
    model = project.load_model()
    rows = project.test_rows(model.classes)
    batch = ModelRows(model, rows).batch(0, len(rows))
    predicted = model.objective.outputs(model.module, batch).argmax(1)
    assert float((predicted == batch["label"]).float().mean()) >= 0.95


def test_every_digit_is_there_once_but_for_the_planted_copies(project: Project) -> None:
    train, test = project.train_rows(None), project.test_rows(None)
    facts = demo_facts(project)
    assert facts is not None
    assert (len(train), len(test), len(facts.duplicates)) == (1312, 497, 12)
    originals = [row_id for row_id in train.ids if row_id.startswith("digit")]
    assert len({*originals, *test.ids}) == 1797
    by_test = {bytes(digest): row_id for digest, row_id in zip(test.digests, test.ids, strict=True)}
    found = {
        row_id: by_test[bytes(digest)]
        for digest, row_id in zip(train.digests, train.ids, strict=True)
        if bytes(digest) in by_test
    }
    assert found == {pair.train_id: pair.test_id for pair in facts.duplicates}


def test_the_planted_wrong_labels_are_where_the_facts_say(project: Project) -> None:
    train = project.train_rows(None)
    facts = demo_facts(project)
    assert facts is not None
    assert project.config.reference_label is not None
    wrong = np.flatnonzero(train.labels != train.labels_in(project.config.reference_label))
    assert len(wrong) == 65
    assert {row.train_id for row in facts.wrong_labels} == {train.ids[position] for position in wrong}
    assert all(row.label != row.true_label for row in facts.wrong_labels)
    assert not {row.train_id for row in facts.wrong_labels} & {pair.train_id for pair in facts.duplicates}
    assert "65 of 1,312 training labels" in facts.sentences[0]
    assert "65 training labels are wrong" in (project.root / "README.md").read_text()


def test_a_cached_pixel_gives_the_same_batch_as_a_decoded_one(project: Project) -> None:
    model = project.load_model()
    rows = project.train_rows(model.classes)
    decoded = ModelRows(model, rows)
    cached = ModelRows(model, rows, decoded.pixels(0, len(rows)))
    assert torch.equal(decoded.batch(5, 25)["x"], cached.batch(5, 25)["x"])
    assert decoded.batch(5, 25)["x"].shape == (20, 1, 8, 8)
    assert decoded.batch(0, 3)["label"].tolist() == rows.labels[:3].tolist()


def test_any_other_project_has_no_demo_facts(project: Project, tmp_path: Path) -> None:
    (tmp_path / "project.yaml").write_bytes((project.root / "project.yaml").read_bytes())
    assert demo_facts(open_project(tmp_path)) is None


def test_a_build_that_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    def stop(fraction: float, note: str) -> None:
        if fraction > 0:
            raise CancelledError("stopped")

    with pytest.raises(CancelledError):
        build_digits(tmp_path / "demos" / "digits", stop)
    assert list((tmp_path / "demos").iterdir()) == []


def test_a_finished_demo_is_left_alone_and_an_older_one_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digits, "_train_model", lambda rows, folder, report: None)
    folder = tmp_path / "digits"
    build_digits(folder, quiet)
    (folder / "README.md").write_text("mine")
    build_digits(folder, quiet)
    assert (folder / "README.md").read_text() == "mine"
    monkeypatch.setattr(digits, "VERSION", digits.VERSION + 1)
    build_digits(folder, quiet)
    assert (folder / "README.md").read_text() != "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]


def test_two_builds_at_once_end_in_one_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "digits"

    def other_finishes_first(rows: object, model: Path, report: object) -> None:
        monkeypatch.setattr(digits, "_train_model", lambda rows, model, report: None)
        build_digits(folder, quiet)
        (folder / "README.md").write_text("first")

    monkeypatch.setattr(digits, "_train_model", other_finishes_first)
    build_digits(folder, quiet)
    assert (folder / "README.md").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]


def test_a_folder_with_other_files_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ProjectError, match="is not empty"):
        build_digits(tmp_path, quiet)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "TRAINING", replace(digits.TRAINING, epochs=1))
    for name in ("one", "two"):
        build_digits(tmp_path / name, quiet)
    for name in ("train.parquet", "test.parquet", "project.yaml", "model/model.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
