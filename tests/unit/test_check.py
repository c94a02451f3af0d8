from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
import yaml
from PIL import Image

from forwardinf_core.models.baseline import Baseline, BaselineConfig
from forwardinf_core.models.baseline_folder import save_baseline
from forwardinf_core.models.preprocessing import PixelPreprocessing
from forwardinf_core.projects.check import CheckReport, check_project

CLASSES = ("cat", "dog", "owl")


def png(seed: int) -> bytes:
    out = BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def write_rows(path: Path, n: int, prefix: str, **columns: list[Any]) -> None:
    rows: dict[str, list[Any]] = {
        "id": [f"{prefix}{i}" for i in range(n)],
        "image": [png(i) for i in range(n)],
        "label": [CLASSES[i % 3] for i in range(n)],
    }
    pa.parquet.write_table(pa.table(rows | columns), path)


def write_model(root: Path, n_classes: int = 3, *, broken: bool = False) -> None:
    module = Baseline(BaselineConfig(n_classes, channels=1, size=8, width=4)).eval()
    if broken:
        with torch.no_grad():
            module.head.weight.fill_(float("nan"))
    (root / "model").mkdir(exist_ok=True)
    save_baseline(root / "model", module, CLASSES, PixelPreprocessing(8, 1, (0.5,), (0.25,)))


def write_config(root: Path, **changes: Any) -> None:
    config: dict[str, Any] = {
        "name": "pets",
        "task": "image-classification",
        "model": {"kind": "baseline", "path": "model"},
        "train": {"kind": "parquet", "path": "train.parquet", "id": "id"},
        "test": {"kind": "parquet", "path": "test.parquet", "id": "id"},
    }
    (root / "project.yaml").write_text(yaml.safe_dump(config | changes))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_rows(tmp_path / "train.parquet", 30, "t")
    write_rows(tmp_path / "test.parquet", 12, "q")
    write_model(tmp_path)
    write_config(tmp_path)
    return tmp_path


def said(report: CheckReport, level: str = "error") -> str:
    return "\n".join(f"{p.where}: {p.title} {p.hint}" for p in report.problems if p.level == level)


def test_a_sound_project_has_no_problems_and_says_what_it_is(root: Path) -> None:
    before = sorted(root.rglob("*"))
    fractions: list[float] = []
    report = check_project(root, report=lambda fraction, note: fractions.append(fraction))
    assert report.problems == ()
    assert report.is_ready
    assert report.facts is not None
    assert report.facts.sets["train"].per_class == (10, 10, 10)
    assert report.facts.sets["train"].n_decoded == 30
    assert (report.facts.head, report.facts.tail) == ("head", ("block3", "head"))
    assert report.facts.n_tried == 12
    assert report.forecast is not None
    assert report.forecast.pixel_cache_bytes == 30 * 64
    assert report.forecast.head_cache_bytes == 30 * 16 * 4  # 4 · width features in float32
    assert report.forecast.tail_cache_bytes == 30 * 16 * 2 * 2 * 4
    assert report.forecast.forward_seconds > 0
    assert fractions == sorted(fractions)
    assert sorted(root.rglob("*")) == before


def test_everything_that_is_wrong_is_listed_at_once(root: Path) -> None:
    write_rows(root / "train.parquet", 30, "t", image=[b"GIF89a broken", *[png(i) for i in range(29)]])
    write_rows(root / "test.parquet", 12, "q", label=["cat", "horse", *["dog"] * 10])
    write_model(root, broken=True)
    write_config(root, reference_label="truth", trusted={"kind": "csv", "path": "trusted.csv"})
    report = check_project(root)
    assert not report.is_ready
    answer = said(report)
    for part in ("1 of 30 images in train cannot be used: t0", "NaN", "trusted.csv does not exist", "truth"):
        assert part in answer
    assert report.forecast is None


def test_a_label_outside_the_classes_of_the_model_is_told(root: Path) -> None:
    write_rows(root / "test.parquet", 3, "q", label=["cat", "horse", "dog"])
    assert "horse" in said(check_project(root))


def test_all_mistakes_in_project_yaml_are_listed_and_nothing_else_is_tried(root: Path) -> None:
    write_config(root, modle=1, task="segmentation")
    report = check_project(root)
    assert "Did you mean model?" in said(report)
    assert 'task is "segmentation"' in said(report)
    assert report.facts is None
    write_config(root, train={"kind": "parquet", "path": "../a.parquet"}, checkpoints=["/b"])
    answer = said(check_project(root))
    assert "train.path is ../a.parquet" in answer
    assert "checkpoints.0 is /b" in answer


def test_a_missing_project_is_one_problem(tmp_path: Path) -> None:
    report = check_project(tmp_path / "nowhere")
    assert [problem.level for problem in report.problems] == ["error"]
    assert "There is no folder" in report.problems[0].title


def test_a_model_with_other_classes_is_told(root: Path) -> None:
    write_model(root, n_classes=4)
    report = check_project(root)
    assert "has 4 outputs, and 3 classes are named" in said(report)
    assert report.facts is not None
    assert report.facts.n_parameters is None
    assert report.facts.sets["train"].n_rows == 30


def test_an_adapter_is_checked_only_with_permission(root: Path) -> None:
    (root / "net.py").write_text(
        "from torch import nn\n\ndef build_model():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))\n"
    )
    model = {"kind": "adapter", "path": "net.py", "classes": list(CLASSES), "mean": [0.5], "std": [0.5], "size": 8}
    write_config(root, model=model)
    assert "--allow-code" in said(check_project(root))
    assert check_project(root, allow_code=True).is_ready


def test_a_model_that_cannot_be_a_graph_is_warned_of_with_the_reason(root: Path) -> None:
    (root / "net.py").write_text(
        """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 3)

    def forward(self, x):
        return self.fc(x.flatten(1)) if x.max().item() > -9 else x

def build_model():
    return Net()
"""
    )
    model = {"kind": "adapter", "path": "net.py", "classes": list(CLASSES), "mean": [0.5], "std": [0.5], "size": 8}
    write_config(root, model=model)
    report = check_project(root, allow_code=True)
    assert report.is_ready
    assert "cannot be turned into a graph" in said(report, "warning")


def test_a_broken_checkpoint_is_told(root: Path) -> None:
    (root / "early").mkdir()
    write_config(root, checkpoints=["model", "early"])
    assert "checkpoints.1: There is no trained baseline in early" in said(check_project(root))


def test_rows_that_leak_or_lack_labels_are_warned_of(root: Path) -> None:
    write_config(root, test={"kind": "parquet", "path": "train.parquet", "id": "id"})
    assert "train and test are the same rows" in said(check_project(root), "warning")
    write_config(root)
    write_rows(root / "test.parquet", 12, "t")
    assert "12 ids are in train and in test" in said(check_project(root), "warning")
    write_rows(root / "train.parquet", 4, "t", label=["cat", "cat", None, "dog"])
    warnings = said(check_project(root), "warning")
    assert "1 of 4 rows of train have no label" in warnings
    assert "1 of 3 classes have no row in train: owl" in warnings


def test_unlabelled_training_rows_are_an_error(root: Path) -> None:
    write_rows(root / "train.parquet", 4, "t", label=[None] * 4)
    assert "No row of train has a label" in said(check_project(root))


def test_a_model_no_better_than_chance_is_warned_of(root: Path) -> None:
    module = Baseline(BaselineConfig(3, channels=1, size=8, width=4)).eval()
    with torch.no_grad():
        module.head.weight.zero_()
        module.head.bias.copy_(torch.tensor([1.0, 0.0, 0.0]))  # always says cat
    save_baseline(root / "model", module, CLASSES, PixelPreprocessing(8, 1, (0.5,), (0.25,)))
    write_rows(root / "test.parquet", 60, "q")
    report = check_project(root)
    assert report.is_ready
    assert "right on 33% of 60 test rows" in said(report, "warning")


def test_large_sets_are_sampled_unless_all_images_are_asked_for(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forwardinf_core.projects.content_check.SMALL_SET", 10)
    monkeypatch.setattr("forwardinf_core.projects.content_check.ROWS_SAMPLED", 5)
    sampled, whole = check_project(root), check_project(root, all_images=True)
    assert sampled.facts is not None
    assert whole.facts is not None
    assert sampled.facts.sets["train"].n_decoded == 5
    assert whole.facts.sets["train"].n_decoded == 30


def test_a_report_that_raises_ends_the_check(root: Path) -> None:
    def stop(fraction: float, note: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_project(root, report=stop)
