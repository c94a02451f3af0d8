"""Images and texts with known wrong labels as projects: CIFAR-10N's human errors, planted flips, crowd-reviewed rows.

Each problem is a folder with project.yaml, made once: ``train.parquet`` with the given labels and ``truth`` (−1 where
nobody knows), ``test.parquet`` with clean ones, from which trusted rows are drawn as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from forwardinf_core.errors import DataError

FLIPPED = 0.1  # of the rows, in the sets with planted errors
PLANT_SEED = 20240807
UNKNOWN = -1
FROM_TEST = "test-"  # before the id of a test row that is searched as a training row
FOLDERS = {
    "cifar10n": "cifar10n",
    "mnist": "mnist",
    "fashion": "fashion_mnist",
    "trec": "text_trec",
    "imdb": "text_imdb",
    "agnews": "text_agnews",
    "sst2": "text_sst2",
}
TEXTS = ("trec", "imdb", "agnews", "sst2")
CIFAR_LABELS = ("label_random1", "label_aggre", "label_worst", "label_random2")
NAMES = (
    *(f"cifar10n-{label}" for label in CIFAR_LABELS),
    *(f"{name}-{kind}" for name in ("mnist", "fashion", "trec") for kind in ("uniform", "by-class")),
    "cifar10n-reviewed",
    "mnist-reviewed",
    "imdb-reviewed",
    "agnews-uniform",
    "sst2-uniform",
)
CHOSEN_ON = ("cifar10n-label_random2", "agnews-uniform", "sst2-uniform")
"""The sets that options were chosen on; the others are reported."""


@dataclass(frozen=True)
class Problem:
    """A project and which of its training labels are wrong; ``known`` marks the rows whose truth is known."""

    name: str
    folder: Path
    wrong: NDArray[np.bool_]
    known: NDArray[np.bool_]
    is_text: bool


def make_problem(name: str, data: Path, work: Path) -> Problem:
    """Return a problem by its name, writing its project below ``work`` first where it is not there."""
    if name not in NAMES:
        raise DataError(f"There is no set {name!r}.", hint=f"There are: {', '.join(NAMES)}.")
    source, kind = name.split("-", 1)
    folder = work / name
    if not (folder / "project.yaml").is_file():
        train, test = (_table(data / FOLDERS[source] / f"{split}.parquet") for split in ("train", "test"))
        if name == "imdb-reviewed":
            rows = _reviewed_texts(train)
        else:
            rows = _reviewed(train, test, source, data) if kind == "reviewed" else _given(train, kind, source)
        folder.mkdir(parents=True, exist_ok=True)
        rows.to_parquet(folder / "train.parquet")
        test[["id", content_of(source), "label"]].to_parquet(folder / "test.parquet")
        (folder / "project.yaml").write_text(yaml.safe_dump(_project(name, source), sort_keys=False), encoding="utf-8")
    table = pd.read_parquet(folder / "train.parquet", columns=["label", "truth"])
    given, truth = table["label"].to_numpy(), table["truth"].to_numpy()
    return Problem(name, folder, (given != truth) & (truth != UNKNOWN), truth != UNKNOWN, source in TEXTS)


def flipped(labels: NDArray[np.int64], kind: str, n_classes: int) -> NDArray[np.int64]:
    """Return labels with a share made wrong: ``uniform`` over the other classes, ``by-class`` to the next class."""
    generator = np.random.default_rng(PLANT_SEED)
    rows = generator.choice(len(labels), round(FLIPPED * len(labels)), replace=False)
    shift = generator.integers(1, n_classes, len(rows)) if kind == "uniform" else 1
    found = labels.copy()
    found[rows] = (found[rows] + shift) % n_classes
    return found


def content_of(source: str) -> str:
    """Return the column that holds what a row shows."""
    return "text" if source in TEXTS else "image"


def _given(train: pd.DataFrame, kind: str, source: str) -> pd.DataFrame:
    truth = train["label"].to_numpy(np.int64)
    given = train[kind].to_numpy(np.int64) if kind in train else flipped(truth, kind, int(truth.max()) + 1)
    shown = content_of(source)
    return pd.DataFrame({"id": train["id"].astype(str), shown: train[shown], "label": given, "truth": truth})


def _reviewed_texts(train: pd.DataFrame) -> pd.DataFrame:
    """Return reviews of two classes; truth is known of those that a crowd judged and agreed on."""
    given, verdict = train["label"].to_numpy(np.int64), train["verdict"]
    truth = np.where(verdict == "label_right", given, np.where(verdict == "label_wrong", 1 - given, UNKNOWN))
    return pd.DataFrame({"id": train["id"].astype(str), "text": train["text"], "label": given, "truth": truth})


def _reviewed(train: pd.DataFrame, test: pd.DataFrame, source: str, data: Path) -> pd.DataFrame:
    """Return all training rows and the crowd-reviewed test rows; truth is known of the latter alone."""
    said = pd.read_parquet(data / "label_review" / "reviewed.parquet")
    dataset = "cifar10_test" if source == "cifar10n" else "mnist_test"
    said = said[(said["dataset"] == dataset) & said["in_subset"] & said["verdict"].isin(["label_right", "label_wrong"])]
    verdicts = dict(zip(said["id"].astype(str), said["verdict"], strict=True))
    judged = test[test["id"].astype(str).isin(set(verdicts))]
    given = judged["label"].to_numpy(np.int64)
    wrong = np.array([verdicts[str(row)] == "label_wrong" for row in judged["id"]])
    return pd.DataFrame(
        {
            "id": [*("train-" + train["id"].astype(str)), *(FROM_TEST + judged["id"].astype(str))],
            "image": [*train["image"], *judged["image"]],
            "label": np.concatenate([train["label"].to_numpy(np.int64), given]),
            # Which class is right is not needed: any other than the given one marks it as wrong.
            "truth": np.concatenate([np.full(len(train), UNKNOWN), np.where(wrong, (given + 1) % 10, given)]),
        }
    )


def _project(name: str, source: str) -> dict[str, object]:
    shown = content_of(source)
    columns = {"kind": "parquet", "id": "id", shown: shown, "label": "label"}
    return {
        "name": name,
        "task": f"{shown}-classification",
        "model": {"kind": "baseline", "path": "model/"},
        "train": {"path": "train.parquet", **columns},
        "test": {"path": "test.parquet", **columns},
    }


def _table(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise DataError(f"{path} is not there.", hint=f"Give the folder that holds {', '.join(FOLDERS.values())}.")
    return pd.read_parquet(path)
