"""A diffusion project small enough to train in a test: two classes of 8×8 pictures by two artists."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from PIL import Image

from forwardinf_core.audits.fitting import FitOptions
from forwardinf_core.jobs import run as jobs

N_TRAIN, N_TEST = 24, 4


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def make_painter(folder: Path, *, epochs: int = 3) -> Path:
    """Write a project whose pictures are bright on the left, or on the right, and train its model."""
    rng = np.random.default_rng(0)
    for split, count in (("train", N_TRAIN), ("test", N_TEST)):
        labels = np.arange(count) % 2
        pixels = rng.integers(0, 90, (count, 8, 8)).astype(np.uint8)
        for row, label in enumerate(labels):
            pixels[row, :, 4 * label : 4 * label + 4] += 150
        rows = {
            "id": [f"{split}-{number}" for number in range(count)],
            "image": [png(one) for one in pixels],
            "label": [("left", "right")[label] for label in labels],
            "artist": ["Ada" if number < count / 3 else "Ben" for number in range(count)],
        }
        pd.DataFrame(rows).to_parquet(folder / f"{split}.parquet")
    sets = {split: {"kind": "parquet", "path": f"{split}.parquet"} for split in ("train", "test")}
    config = {"name": "Sides", "task": "diffusion", "model": {"kind": "baseline", "path": "model/"}, **sets}
    (folder / "project.yaml").write_text(yaml.safe_dump(config))
    with torch.backends.mkldnn.flags(enabled=False):
        jobs.run_here("fit", folder, FitOptions(epochs=epochs, width=8))
    return folder
