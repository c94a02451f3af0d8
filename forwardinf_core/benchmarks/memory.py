"""``bench memory``: peak memory of scoring, on projects that differ only in their number of rows.

The images are noise and the network is untrained: memory depends on neither. Each measurement is a process of its own,
whose peak the operating system tells.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import yaml
from PIL import Image

from forwardinf_core.jobs.memory import peak_bytes
from forwardinf_core.models.baseline import Baseline, BaselineConfig
from forwardinf_core.models.baseline_folder import save_baseline
from forwardinf_core.models.denoiser_baseline import make_denoiser, save_denoiser, suitable_config
from forwardinf_core.models.preprocessing import PixelPreprocessing

BUDGET_MIB = 1_536  # of the whole process, PyTorch and libraries included, without pages of mapped caches
LOOK_S = 0.02
SIZE, N_CLASSES, N_TEST = 32, 10, 4
PAINTED_SIZE, PAINTED_WIDTH = 16, 8
DISTINCT = 500  # pictures; further rows repeat them


@dataclass(frozen=True)
class Peak:
    """Peak memory of one process that scored ``n_rows`` rows by ``method``, in MiB.

    ``mib`` is all that was resident; pages of memory-mapped caches count there, which the system takes back when it
    needs them. ``own_mib`` is without those where the system tells them apart (Linux), looked at every 20 ms.
    """

    n_rows: int
    method: str
    mib: float
    own_mib: float


def peak_of(n_rows: int, method: str, *, paints: bool = False) -> Peak:
    """Return the peak memory of opening a project of so many rows and answering one query.

    ``paints``: a diffusion model's project and one of its methods, in place of a classifier's.
    """
    with tempfile.TemporaryDirectory() as name:
        if paints:
            make_painting_project(Path(name), n_rows)
        else:
            make_project(Path(name), n_rows)
        command = [sys.executable, "-m", "forwardinf_core.benchmarks.memory", name, method]
        found = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603  # our own module
        return Peak(n_rows, method, **json.loads(found.stdout.splitlines()[-1]))


def make_project(folder: Path, n_rows: int) -> None:
    """Write a project with CIFAR-sized pictures of noise and an untrained baseline."""
    _write_rows(folder, "image-classification", n_rows, SIZE)
    preprocessing = PixelPreprocessing(SIZE, 3, (0.5,) * 3, (0.25,) * 3)
    module = Baseline(BaselineConfig(N_CLASSES, 3, SIZE, 16)).eval()
    save_baseline(folder / "model", module, tuple(str(code) for code in range(N_CLASSES)), preprocessing)


def make_painting_project(folder: Path, n_rows: int) -> None:
    """Write a project with small pictures of noise and an untrained UNet that paints by class."""
    _write_rows(folder, "diffusion", n_rows, PAINTED_SIZE)
    config = suitable_config(N_CLASSES, 3, PAINTED_SIZE, PAINTED_WIDTH)
    save_denoiser(folder / "model", make_denoiser(config), config, tuple(str(code) for code in range(N_CLASSES)))


def _write_rows(folder: Path, task: str, n_rows: int, size: int) -> None:
    rng = np.random.default_rng(0)
    pictures = []
    for _ in range(DISTINCT):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(buffer, "PNG")
        pictures.append(buffer.getvalue())
    for split, count in (("train", n_rows), ("test", N_TEST)):
        rows = {
            "id": [f"{split}-{number}" for number in range(count)],
            "image": [pictures[number % DISTINCT] for number in range(count)],
            "label": rng.integers(0, N_CLASSES, count),
        }
        pd.DataFrame(rows).to_parquet(folder / f"{split}.parquet", row_group_size=2_000)
    config = {
        "name": "memory",
        "task": task,
        "model": {"kind": "baseline", "path": "model/"},
        **{split: {"kind": "parquet", "path": f"{split}.parquet"} for split in ("train", "test")},
    }
    (folder / "project.yaml").write_text(yaml.safe_dump(config))
    (folder / "model").mkdir()


def answer_and_tell(folder: str, method: str) -> None:
    """Open the project, answer one query and print this process's peak memory."""
    from forwardinf_core.audits.generation.methods import method_named
    from forwardinf_core.audits.generation.opening import open_generation_audit
    from forwardinf_core.audits.opening import open_audit, task_of

    own, ended = [0], threading.Event()

    def look() -> None:
        while not ended.wait(LOOK_S):
            own[0] = max(own[0], own_bytes())

    watch = threading.Thread(target=look)
    watch.start()
    try:
        if task_of(folder) == "diffusion":
            painting = open_generation_audit(folder)
            painting.trace([painting.picture("test:test-0")], method_named(method))
        else:
            open_audit(folder).attribute("test:test-0", method=method)
    finally:
        ended.set()
        watch.join()
    # not getrusage: what it says of a child begins at the size of the program that started it
    print(json.dumps({"mib": peak_bytes() / 2**20, "own_mib": own[0] / 2**20}))


def own_bytes() -> int:
    """Return the resident memory of this process, without pages of files where the system tells them apart."""
    found = psutil.Process().memory_info()
    return int(found.rss - getattr(found, "shared", 0))


if __name__ == "__main__":
    answer_and_tell(*sys.argv[1:])
