"""The demo ``digits``: 1,797 real handwritten digits that come with scikit-learn, and a small network trained on them.

Wrong labels and train/test duplicates are planted, openly: columns of the training rows say where. Same seed and same
number of threads, same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from forwardinf_core.models.baseline import Baseline, BaselineConfig
from forwardinf_core.models.baseline_folder import save_baseline, save_training
from forwardinf_core.models.preprocessing import PixelPreprocessing
from forwardinf_core.models.training import TrainingOptions, TrainingState, train
from forwardinf_core.projects.demos.building import (
    DemoFacts,
    PlantedDuplicate,
    PlantedLabel,
    Report,
    is_built,
    read_mark,
    whole_folder,
)
from forwardinf_core.projects.load import Project

DEMO = "digits"
VERSION = 1  # raised whenever the demo is built otherwise: an older one is then built again
SEED = 20240214  # fixed once and for all; chosen as a date, not by its results
N_TRAIN = 1_300  # originals; the copies come on top, and the other 497 digits are the test rows
WRONG_SHARE = 0.05
N_DUPLICATES = 12
CLASSES = tuple("0123456789")
WIDTH = 16  # 8×8 pixels: twice the width gains nothing and takes twice as long
TRAINING = TrainingOptions(epochs=16, shift=1, seed=SEED)
ORIGIN = (
    "Optical Recognition of Handwritten Digits (E. Alpaydin and C. Kaynak, 1998, UCI Machine Learning Repository, "
    "CC BY 4.0), the 1,797 8×8 images bundled with scikit-learn."
)


@dataclass(frozen=True)
class _Rows:
    """The demo's rows before they are written. ``train`` and ``test`` are positions among the 1,797 digits."""

    pixels: NDArray[np.uint8]  # (1797, 8, 8)
    digit: NDArray[np.int64]  # (1797,)
    train: NDArray[np.int64]
    test: NDArray[np.int64]
    label: NDArray[np.int64]  # (n_train,) as found in the data, some wrong
    copied: NDArray[np.bool_]  # (n_train,) the row is a copy of a test row


def build_digits(folder: Path, report: Report) -> None:
    """Build the demo in ``folder``, or leave one of this version as it is. Takes about ten seconds on an idle core.

    What ``report`` raises stops the build and leaves nothing behind.
    """
    if is_built(folder, DEMO, VERSION):
        report(1.0, "The digits demo is there already")
        return
    with whole_folder(folder, DEMO, VERSION) as building:
        report(0.0, "Writing the digits")
        rows = _draw()
        pa.parquet.write_table(_train_table(rows), building / "train.parquet")
        pa.parquet.write_table(_test_table(rows), building / "test.parquet")
        (building / "project.yaml").write_text(yaml.safe_dump(_project(), sort_keys=False), encoding="utf-8")
        (building / "README.md").write_text(_readme(rows), encoding="utf-8")
        (building / "model").mkdir()
        _train_model(rows, building / "model", report)
    report(1.0, "The digits demo is ready")


def demo_facts(project: Project) -> DemoFacts | None:
    """Return what was planted in the digits demo, read from its columns; None for any other project."""
    mark = read_mark(project.root)
    if mark is None or mark[0] != DEMO:
        return None
    names = ["id", "label", "true_label", "planted_wrong", "planted_duplicate_of"]
    rows = pa.parquet.read_table(project.root / project.config.train.path, columns=names).to_pylist()
    wrong = tuple(
        PlantedLabel(row["id"], CLASSES[row["label"]], CLASSES[row["true_label"]])
        for row in rows
        if row["planted_wrong"]
    )
    duplicates = tuple(
        PlantedDuplicate(row["id"], row["planted_duplicate_of"]) for row in rows if row["planted_duplicate_of"]
    )
    sentences = (
        f"{len(wrong)} of {len(rows):,} training labels were made wrong on purpose "
        f"({100 * len(wrong) / len(rows):.0f}%, spread evenly over the other digits).",
        f"{len(duplicates)} training rows are exact copies of test rows, put there on purpose.",
    )
    return DemoFacts(DEMO, ORIGIN, sentences, wrong, duplicates)


def _draw() -> _Rows:
    """Split the digits, copy test rows into the training rows and make labels wrong, all by the fixed seed."""
    data = load_digits()
    digit = data.target.astype(np.int64)
    pixels = np.rint(data.images * (255 / 16)).astype(np.uint8)  # values 0 … 16
    generator = np.random.default_rng(SEED)
    order = generator.permutation(len(digit))
    test = np.sort(order[N_TRAIN:])
    copies = generator.choice(test, N_DUPLICATES, replace=False)
    train = generator.permutation(np.concatenate([order[:N_TRAIN], copies]))
    copied = np.isin(train, test)
    label = digit[train].copy()
    wrong = generator.choice(np.flatnonzero(~copied), round(WRONG_SHARE * N_TRAIN), replace=False)
    label[wrong] = (label[wrong] + generator.integers(1, len(CLASSES), len(wrong))) % len(CLASSES)
    return _Rows(pixels, digit, train, test, label, copied)


def _id(position: int, copied: bool = False) -> str:
    return f"{'copy' if copied else 'digit'}-{position:04d}"


def _png(pixels: NDArray[np.uint8]) -> bytes:
    out = BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def _train_table(rows: _Rows) -> pa.Table:
    pairs = list(zip(rows.train.tolist(), rows.copied.tolist(), strict=True))
    true_label = rows.digit[rows.train]
    return pa.table(
        {
            "id": [_id(position, copied) for position, copied in pairs],
            "image": [_png(rows.pixels[position]) for position, _ in pairs],
            "label": rows.label,
            "true_label": true_label,
            "planted_wrong": rows.label != true_label,
            "planted_duplicate_of": pa.array([_id(p) if copied else None for p, copied in pairs], pa.string()),
        }
    )


def _test_table(rows: _Rows) -> pa.Table:
    positions = rows.test.tolist()
    return pa.table(
        {
            "id": [_id(position) for position in positions],
            "image": [_png(rows.pixels[position]) for position in positions],
            "label": rows.digit[rows.test],
        }
    )


def _project() -> dict[str, object]:
    columns = {"id": "id", "image": "image", "label": "label"}
    return {
        "name": "Handwritten digits",
        "task": "image-classification",
        "model": {"kind": "baseline", "path": "model/"},
        "train": {"kind": "parquet", "path": "train.parquet", **columns},
        "test": {"kind": "parquet", "path": "test.parquet", **columns},
        "reference_label": "true_label",
    }


def _readme(rows: _Rows) -> str:
    n_wrong = int((rows.label != rows.digit[rows.train]).sum())
    return f"""# Handwritten digits

{ORIGIN}

Built by the Forward-INF auditor (seed {SEED}); delete this folder to have it built again.

- `train.parquet`: {len(rows.train):,} rows, {N_TRAIN:,} digits and {N_DUPLICATES} copies of test rows.
- `test.parquet`: the other {len(rows.test)} digits.
- `model/`: a small residual network trained on `train.parquet`, wrong labels included.

Planted on purpose:

- {n_wrong} training labels are wrong. `planted_wrong` marks them, `true_label` holds the label they came with.
- {N_DUPLICATES} training rows are exact copies of test rows. `planted_duplicate_of` names the test row.

Nothing of this reaches the model but `label`; the other columns are there to compare answers with.
"""


def _train_model(rows: _Rows, folder: Path, report: Report) -> None:
    pixels = torch.from_numpy(rows.pixels[rows.train]).unsqueeze(1)  # (n_train, 1, 8, 8)
    size = pixels.shape[-1]
    scaled = pixels.double() / 255
    preprocessing = PixelPreprocessing(
        size=size, channels=1, mean=(round(float(scaled.mean()), 4),), std=(round(float(scaled.std()), 4),)
    )

    def on_epoch(state: TrainingState) -> None:
        report(state.epoch / TRAINING.epochs, f"Training the network: epoch {state.epoch} of {TRAINING.epochs}")

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        module = Baseline(BaselineConfig(n_classes=len(CLASSES), channels=1, size=size, width=WIDTH))
    train(module, pixels, torch.from_numpy(rows.label), TRAINING, normalise=preprocessing.normalise, on_epoch=on_epoch)
    save_baseline(folder, module, CLASSES, preprocessing)
    save_training(folder, TRAINING)
