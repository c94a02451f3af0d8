from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from forwardinf_core.errors import AuditError, ProjectError
from forwardinf_core.projects.load import open_project
from forwardinf_core.projects.places import user_folder

YAML = """
name: birds
task: image-classification
model: {kind: baseline, path: model/}
train: {kind: parquet, path: train.parquet}
test: {kind: parquet, path: test.parquet}
"""


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORWARDINF_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("FORWARDINF_ALLOW_OUTSIDE_PATHS", raising=False)


def project_with(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "project.yaml").write_text(text)
    return folder


def sentence(folder: str | Path) -> str:
    with pytest.raises(ProjectError) as caught:
        open_project(folder)
    return f"{caught.value.title} | {caught.value.hint}"


def test_a_project_opens_from_its_folder_or_its_file(tmp_path: Path) -> None:
    folder = project_with(tmp_path / "p", YAML)
    project = open_project(folder)
    assert project.root == folder.resolve()
    assert project.audit_dir == folder.resolve() / ".audit"
    assert not project.audit_dir.exists()
    assert open_project(folder / "project.yaml") == project


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (YAML + "name: twice\n", ["the key name is there twice", "Line 7"]),
        (YAML + "task: [\n", ["not valid YAML", "Line"]),
        ("", ["holds nothing"]),
        ("- a\n- b\n", ["holds a list"]),
        (YAML + "checkpoints: &a [x]\nreference_label: *a\n", ["references"]),
        (YAML + "evil: !!python/object/apply:os.system ['true']\n", ["not valid YAML", "python/object"]),
        ("a: " + "[" * 5000, ["not valid YAML"]),
        ("#" * 1_100_000, ["1.1 MB"]),
        (YAML + "? [1, 2]\n: x\n", ["not valid YAML"]),
    ],
)
def test_a_file_that_is_no_project_file_is_answered_with_the_place(tmp_path: Path, text: str, said: list[str]) -> None:
    answer = sentence(project_with(tmp_path / "p", text))
    for part in said:
        assert part in answer


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    folder = project_with(tmp_path / "p", YAML)
    (folder / "project.yaml").write_bytes(b"\x89PNG\xff\xfe\x00")
    assert "not a text file" in sentence(folder)


def test_missing_folders_and_files_are_answered_with_what_is_there(tmp_path: Path) -> None:
    assert "There is no folder" in sentence(tmp_path / "nowhere")
    (tmp_path / "p").mkdir()
    assert "has no project.yaml" in sentence(tmp_path / "p")
    (tmp_path / "p" / "project.yml").write_text(YAML)
    assert "Found project.yml; rename" in sentence(tmp_path / "p")


def test_demos_are_found_by_name(tmp_path: Path) -> None:
    assert user_folder() == (tmp_path / "home").resolve()
    assert "Did you mean digits?" in sentence("demo:digit")
    assert "demo build digits" in sentence("demo:digits")
    (tmp_path / "home" / "demos").mkdir(parents=True)
    folder = project_with(tmp_path / "home" / "demos" / "digits", YAML)
    assert open_project("demo:digits").root == folder.resolve()


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("path: model/", "path: ../model", "model.path"),
        ("path: train.parquet", "path: /etc/passwd", "train.path"),
        ("kind: baseline,", "kind: baseline, weights: ../../w.safetensors,", "model.weights"),
        ("name: birds", "name: birds\ncheckpoints: [ok, ../c]", "checkpoints.1"),
    ],
)
def test_a_path_may_not_leave_the_project_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, field: str
) -> None:
    folder = project_with(tmp_path / "p", YAML.replace(old, new))
    answer = sentence(folder)
    assert answer.startswith(f"{field} is ")
    assert "outside the project folder" in answer
    assert open_project(folder, allow_outside=True).allow_outside
    monkeypatch.setenv("FORWARDINF_ALLOW_OUTSIDE_PATHS", "1")
    assert open_project(folder).allow_outside


def test_a_link_may_not_lead_out_of_the_project_folder(tmp_path: Path) -> None:
    folder = project_with(tmp_path / "p", YAML)
    (tmp_path / "secret.parquet").write_bytes(b"")
    os.symlink(tmp_path / "secret.parquet", folder / "train.parquet")
    assert "train.path" in sentence(folder)


def test_a_model_is_not_read_from_outside_even_as_a_checkpoint(tmp_path: Path) -> None:
    project = open_project(project_with(tmp_path / "p", YAML))
    with pytest.raises(ProjectError, match="outside the project folder"):
        project.load_model(checkpoint="../elsewhere")


def test_rows_open_with_the_classes_of_the_model(tmp_path: Path) -> None:
    folder = project_with(tmp_path / "p", YAML)
    table = pa.table({"id": ["a", "b"], "image": [b"x", b"y"], "label": ["dog", "cat"]})
    pa.parquet.write_table(table, folder / "train.parquet")
    project = open_project(folder)
    assert project.train_rows(("dog", "cat")).labels.tolist() == [0, 1]
    assert project.train_rows(None).classes == ("cat", "dog")
    assert project.trusted_rows(None) is None
    with pytest.raises(AuditError, match=r"test\.parquet does not exist"):
        project.test_rows(None)
