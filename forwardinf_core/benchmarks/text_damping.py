"""Which damping suits the tail of a text classifier: planted copies, and fidelity to retraining, for a range of values.

*Planted*: of some queries, a training row with their own label and one with a wrong label are added; how often is the
wrong copy the most harmful row, and how often the right one among the most helpful hundredth? *Fidelity*: the linear
datamodelling score on retrained halves. A quarter of a set's rows is for choosing, and no other row of it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from numpy.typing import NDArray

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.fitting import FitOptions
from forwardinf_core.audits.methods import method_named
from forwardinf_core.audits.opening import open_audit
from forwardinf_core.influence.objective import Classification
from forwardinf_core.jobs.run import run_here
from forwardinf_core.models.rows import inputs_of
from forwardinf_core.models.text_baseline import TextBaseline
from forwardinf_core.models.text_training import TextTraining, train_text
from forwardinf_core.store.binding import Binding
from forwardinf_core.store.chunks import ChunkStore
from forwardinf_core.store.files import make_folder
from forwardinf_core.verification.lds import Truth, linear_datamodelling_score
from forwardinf_core.verification.retraining import half_subsets

DAMPINGS = (1e-7, 1e-6, 1e-5, 1e-4, 3e-4, 1e-3, 1e-2, 1e-1)
STEPS = ("head-fisher", "tail-subspace", "tail-ekfac")
SEED = 17
COPY, WRONG = "copy-", "wrong-"
HELPFUL = 0.01  # the most helpful hundredth
EPOCHS = 30  # of a half of a few hundred rows: about as many steps as ``fit`` takes at least

Report = Callable[[float, str], None]


@dataclass(frozen=True)
class DampingFigure:
    """One method at one damping. ``lds`` is NaN where nothing was retrained."""

    data: str
    n_rows: int
    method: str
    damping: float
    wrong_last: float  # share of queries whose wrong copy is the most harmful row
    wrong_in_last_5: float
    copy_helpful: float
    lds: float
    low: float
    high: float


def open_planted(data: Path, work: Path, *, n_rows: int, n_queries: int) -> Audit:
    """Return a project of some rows of ``data`` with planted copies, its classifier trained first."""
    folder = work / f"{data.name}-{n_rows}"
    if not (folder / "project.yaml").is_file():
        make_folder(folder)
        table = pd.read_parquet(data / "train.parquet")[["id", "text", "label_name"]]
        order = np.random.default_rng(SEED).permutation(len(table) // 4)  # the quarter to choose on
        rows, asked = table.iloc[order[:n_rows]], table.iloc[order[n_rows : n_rows + n_queries]]
        names = sorted(table["label_name"].unique())
        labels = enumerate(asked["label_name"])
        wrong = [names[(names.index(label) + 1 + i % (len(names) - 1)) % len(names)] for i, label in labels]
        copies = asked.assign(id=[f"{COPY}{one}" for one in asked["id"]])
        false = asked.assign(id=[f"{WRONG}{one}" for one in asked["id"]], label_name=wrong)
        pd.concat([rows, copies, false]).to_parquet(folder / "train.parquet")
        asked.to_parquet(folder / "test.parquet")
        columns = {"kind": "parquet", "id": "id", "text": "text", "label": "label_name"}
        config = {
            "name": folder.name,
            "task": "text-classification",
            "model": {"kind": "baseline", "path": "model/", "classes": names},
            "train": {"path": "train.parquet", **columns},
            "test": {"path": "test.parquet", **columns},
        }
        (folder / "project.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    if not (folder / "model" / "model.safetensors").is_file():
        run_here("fit", folder, FitOptions(), lambda *_: None)
    return open_audit(folder)


def measure(
    audit: Audit, *, halves: int, methods: Sequence[str] = STEPS, dampings: Sequence[float] = DAMPINGS, report: Report
) -> list[DampingFigure]:
    """Return a figure for each method and damping; ``halves`` networks are retrained first, 0 for none."""
    truth = retrained(audit, halves, report) if halves else None
    queries = [f"test:{row_id}" for row_id in audit.test_ids]
    ids = np.asarray(audit.train_ids)
    found = []
    for number, name in enumerate(methods):
        for damping in dampings:
            answers = audit.attribute_all(queries, method_named(name, damping=damping), None)
            scores = np.stack([answer.scores.score for answer in answers])
            wrong, copy = [], []
            for row_id, values in zip(audit.test_ids, scores, strict=True):
                own = values[ids == f"{WRONG}{row_id}"][0]
                wrong.append(int((values < own).sum()))
                copy.append(float((values > values[ids == f"{COPY}{row_id}"][0]).mean()))
            low = np.asarray(wrong)
            lds = None if truth is None else linear_datamodelling_score(scores.astype(np.float64), truth)
            found.append(
                DampingFigure(
                    audit.project_name,
                    len(ids),
                    name,
                    damping,
                    float((low == 0).mean()),
                    float((low < 5).mean()),
                    float((np.asarray(copy) <= HELPFUL).mean()),
                    *((np.nan,) * 3 if lds is None else (lds.lds, lds.low, lds.high)),
                )
            )
            report((number + 1) / len(methods), f"{name} at {damping:g}")
    return found


def retrained(audit: Audit, halves: int, report: Report) -> Truth:
    """Return what classifiers trained on random halves say of the queries: the log-odds of their labels."""
    module = audit.model.module
    assert isinstance(module, TextBaseline)
    rows, test = (inputs_of(audit.model, one, range(len(one))) for one in (audit.train, audit.test))
    labels = torch.from_numpy(audit.train_labels.copy())
    asked = {"label": torch.from_numpy(audit.test.labels.copy())}
    subsets = half_subsets(len(labels), halves, SEED)
    binding = Binding("text-damping", {"train": audit.train.fingerprint, "model": audit.model.fingerprint}, {})
    store = ChunkStore(audit.project.audit_dir / "text-damping", binding)
    outcomes = []
    for number, subset in enumerate(subsets):
        key = f"half-{number:05d}"
        kept = store.get(key)
        if kept is None:
            torch.manual_seed(number)
            training = replace(TextTraining(seed=number), width=module.config.width, epochs=EPOCHS)
            own = TextBaseline(module.config, dropout=training.dropout)
            some = torch.from_numpy(subset)
            train_text(own, {name: value[some] for name, value in rows.items()}, labels[some], training)
            with torch.inference_mode():
                outputs = own(test["input_ids"], test["attention_mask"])
            kept = {"odds": -Classification().unsaturated_losses(outputs, asked)}
            store.put(key, kept)
        outcomes.append(kept["odds"].double().numpy())
        report(number / halves, f"Retrained {number + 1} of {halves}")
    found: NDArray[np.float64] = np.stack(outcomes)
    return Truth.of(subsets, found[None])
