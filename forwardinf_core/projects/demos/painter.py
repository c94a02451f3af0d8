"""The demo ``painter``: a small diffusion model trained here on the 1,797 real digits that come with scikit-learn.

A few digits are copied many times among the training rows, openly, so that the model memorizes them and a generated
copy can be traced. Same seed and same number of threads, same bytes.
"""

from __future__ import annotations

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

from forwardinf_core.models.baseline_folder import save_training
from forwardinf_core.models.denoiser import PixelCodec, objective_of
from forwardinf_core.models.denoiser_baseline import SCHEDULE, make_denoiser, save_denoiser, suitable_config
from forwardinf_core.models.denoiser_training import DenoiserState, DenoiserTraining, train_denoiser
from forwardinf_core.projects.demos.building import Report, is_built, whole_folder

DEMO = "painter"
VERSION = 2  # raised whenever the demo is built otherwise: an older one is then built again
SEED = 20240301  # fixed once and for all; chosen as a date, not by its results
N_TRAIN = 1_500  # originals; copies come on top, and the other 297 digits are the test rows
COPIED = 3  # digits that are copied
COPIES = 40  # of each
CLASSES = tuple("0123456789")
WIDTH = 24
TRAINING = DenoiserTraining(epochs=50, seed=SEED)
ORIGIN = (
    "Optical Recognition of Handwritten Digits (E. Alpaydin and C. Kaynak, 1998, UCI Machine Learning Repository, "
    "CC BY 4.0), the 1,797 8×8 images bundled with scikit-learn."
)


def build_painter(folder: Path, report: Report) -> None:
    """Build the demo in ``folder``, or leave one of this version as it is.

    What ``report`` raises stops the build and leaves nothing behind.
    """
    if is_built(folder, DEMO, VERSION):
        report(1.0, "The painter demo is there already")
        return
    with whole_folder(folder, DEMO, VERSION) as building:
        report(0.0, "Writing the digits")
        pixels, digit, train, test, copied = _draw()
        pa.parquet.write_table(_table(pixels, digit, train, copied), building / "train.parquet")
        pa.parquet.write_table(_table(pixels, digit, test, np.zeros(len(test), bool)), building / "test.parquet")
        (building / "project.yaml").write_text(yaml.safe_dump(_project(), sort_keys=False), encoding="utf-8")
        (building / "README.md").write_text(_readme(len(train), len(test)), encoding="utf-8")
        (building / "model").mkdir()
        _train(pixels[train], digit[train], building / "model", report)
    report(1.0, "The painter demo is ready")


def planted_sentences() -> tuple[str, ...]:
    """Return what was planted, in words."""
    return (
        f"{COPIED} training digits are there {COPIES + 1} times each, put there on purpose: the model memorizes them.",
    )


def _draw() -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Split the digits and copy a few of the training rows, by the fixed seed."""
    data = load_digits()
    digit = data.target.astype(np.int64)
    pixels = np.rint(data.images * (255 / 16)).astype(np.uint8)
    generator = np.random.default_rng(SEED)
    order = generator.permutation(len(digit))
    originals, test = order[:N_TRAIN], np.sort(order[N_TRAIN:])
    chosen = originals[[int(np.flatnonzero(digit[originals] == code)[0]) for code in (2, 5, 7)[:COPIED]]]
    rows = np.concatenate([originals, np.repeat(chosen, COPIES)])
    copied = np.arange(len(rows)) >= len(originals)
    mixed = generator.permutation(len(rows))
    return pixels, digit, rows[mixed], test, copied[mixed]


def _table(
    pixels: NDArray[np.uint8], digit: NDArray[np.int64], rows: NDArray[np.int64], copied: NDArray[np.bool_]
) -> pa.Table:
    seen: dict[int, int] = {}
    ids = []
    for row, is_copy in zip(rows.tolist(), copied.tolist(), strict=True):
        seen[row] = seen.get(row, 0) + is_copy
        ids.append(f"copy-{row:04d}-{seen[row]:02d}" if is_copy else f"digit-{row:04d}")
    return pa.table(
        {
            "id": ids,
            "image": [_png(pixels[row]) for row in rows.tolist()],
            "label": digit[rows],
            "planted_copy_of": pa.array(
                [f"digit-{row:04d}" if c else None for row, c in zip(rows.tolist(), copied.tolist(), strict=True)],
                pa.string(),
            ),
        }
    )


def _png(pixels: NDArray[np.uint8]) -> bytes:
    out = BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def _project() -> dict[str, object]:
    columns = {"id": "id", "image": "image", "label": "label"}
    return {
        "name": "Painted digits",
        "task": "diffusion",
        "model": {"kind": "baseline", "path": "model/"},
        "train": {"kind": "parquet", "path": "train.parquet", **columns},
        "test": {"kind": "parquet", "path": "test.parquet", **columns},
    }


def _readme(n_train: int, n_test: int) -> str:
    return f"""# Painted digits

{ORIGIN}

Built by the Forward-INF auditor (seed {SEED}); delete this folder to have it built again.

- `train.parquet`: {n_train:,} rows, {N_TRAIN:,} digits and {COPIED} × {COPIES} copies.
- `test.parquet`: the other {n_test} digits.
- `model/`: a small class-conditional diffusion model (UNet) trained on `train.parquet`.

Planted on purpose: {planted_sentences()[0]} `planted_copy_of` names the original; the model sees image and label alone.
"""


def _train(pixels: NDArray[np.uint8], digit: NDArray[np.int64], folder: Path, report: Report) -> None:
    codec = PixelCodec(1, pixels.shape[-1])
    samples = codec.encode([Image.fromarray(one) for one in pixels])
    config = suitable_config(len(CLASSES), 1, codec.size, WIDTH)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        module = make_denoiser(config)

    def on_epoch(state: DenoiserState) -> None:
        report(state.epoch / TRAINING.epochs, f"Training the painter: epoch {state.epoch} of {TRAINING.epochs}")

    train_denoiser(
        module,
        samples,
        torch.from_numpy(digit),
        objective_of(SCHEDULE, DEMO),
        TRAINING,
        null_label=config.n_classes,
        on_epoch=on_epoch,
    )
    save_denoiser(folder, module, config, CLASSES)
    save_training(folder, TRAINING)
