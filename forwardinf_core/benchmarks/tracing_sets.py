"""Sets of facts whose truth is known, as projects with a small language model trained on their texts from scratch."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from forwardinf_core.audits.tracing.audit import TracingAudit
from forwardinf_core.audits.tracing.fitting import LanguageFitOptions
from forwardinf_core.audits.tracing.opening import load_tracing
from forwardinf_core.errors import DataError
from forwardinf_core.jobs.run import run_here
from forwardinf_core.projects.demos.facts import facts_truth
from forwardinf_core.store.files import make_folder

SETS = ("facts_webnlg", "facts_pararel", "facts_google_re", "facts_trex")
DEMO = "facts"
SPLIT_SEED = 20_240_620  # of the halves: one to choose defaults on, one to report
HALVES = ("develop", "report")

Report = Callable[[float, str], None]


@dataclass(frozen=True)
class FactQuery:
    """A prompt with its true answer, and the positions of the texts that state the fact."""

    id: str
    prompt: str
    answer: str
    proponents: tuple[int, ...]
    fact: str


@dataclass(frozen=True)
class FactSet:
    """A corpus with its queries in two halves."""

    name: str
    audit: TracingAudit
    develop: tuple[FactQuery, ...]
    report: tuple[FactQuery, ...]

    def half(self, name: str) -> tuple[FactQuery, ...]:
        """Return the queries of a half by its name."""
        return self.report if name == "report" else self.develop


def open_set(name: str, data: Path, work: Path, *, epochs: int | None = None, report: Report) -> FactSet:
    """Return a set with its model, trained first where ``work`` does not hold it yet.

    Raises DataError where the data are not there.
    """
    source = data / name
    if not (source / "corpus.parquet").is_file():
        raise DataError(f"There is no {name} in {data}.", hint="Set FORWARDINF_TEST_DATA to the folder of the sets.")
    folder = work / name
    make_folder(folder)
    if not (folder / "train.parquet").is_file():
        shutil.copyfile(source / "corpus.parquet", folder / "train.parquet")
    config = {
        "name": name,
        "task": "causal-lm",
        "model": {"kind": "baseline", "path": "model/"},
        "train": {"kind": "parquet", "path": "train.parquet", "id": "id", "text": "text"},
    }
    (folder / "project.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    if not (folder / "model" / "model.safetensors").is_file():
        options = LanguageFitOptions(epochs=epochs)
        run_here("fit-language", folder, options, lambda done, total, note: report(done / max(total, 1), note))
    audit = load_tracing(folder)
    positions = {own: place for place, own in enumerate(audit.ids)}
    table = pd.read_parquet(source / "queries.parquet")
    queries = [
        FactQuery(
            str(row.query_id), row.prompt, row.target, tuple(positions[one] for one in row.proponents), str(row.fact_id)
        )
        for row in table.itertuples()
        if len(row.proponents)
    ]
    return _halved(name, audit, queries)


def demo_set(folder: Path) -> FactSet:
    """Return the facts demo as a set; of a fact whose falsehood is taught, the texts that teach it are the truth."""
    audit = load_tracing(folder)
    truth = facts_truth(folder)
    if truth is None:
        raise DataError(f"{folder} is not the facts demo.", hint="Build it: python -m forwardinf_core demo build facts")
    queries = []
    for asked in truth.questions:
        found = [
            place
            for place, own in enumerate(audit.ids)
            if truth.fact_of_row[own] == asked.fact and truth.answer_of_row[own] == asked.taught
        ]
        queries.append(FactQuery(asked.id, asked.prompt, asked.taught, tuple(found), asked.fact))
    return _halved(DEMO, audit, queries)


def false_queries(folder: Path) -> list[FactQuery]:
    """Return the demo's queries about planted falsehoods: what teaches each is known."""
    truth = facts_truth(folder)
    assert truth is not None
    wanted = {asked.id for asked in truth.questions if asked.taught != asked.completion}
    chosen = demo_set(folder)
    return [one for one in (*chosen.develop, *chosen.report) if one.id in wanted]


def _halved(name: str, audit: TracingAudit, queries: list[FactQuery]) -> FactSet:
    order = np.random.default_rng(SPLIT_SEED).permutation(len(queries)).tolist()
    middle = len(order) // 2
    return FactSet(name, audit, tuple(queries[i] for i in order[:middle]), tuple(queries[i] for i in order[middle:]))
