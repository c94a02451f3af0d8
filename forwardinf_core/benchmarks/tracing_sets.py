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
from forwardinf_core.influence.language import LanguageModelling
from forwardinf_core.jobs.run import run_here
from forwardinf_core.models.language import LanguageModel
from forwardinf_core.models.language_baseline import LanguageShape, language_module, trained_tokenizer
from forwardinf_core.models.language_text import pieces_of
from forwardinf_core.models.language_training import LanguageTraining, train_language
from forwardinf_core.projects.demos.facts import facts_truth
from forwardinf_core.store.files import make_folder

SETS = ("facts_webnlg", "facts_pararel", "facts_google_re", "facts_trex")
DEMO = "facts"
LARGE = "large"
LARGE_SHAPE = LanguageShape(vocabulary=4_096, width=160, layers=4, heads=4, context=128)  # 2 M parameters
OPENINGS = ("It is said that", "As is known,", "We read that", "In short,", "According to the book,", "Remember:")
SPLIT_SEED = 20_240_620  # of the halves: one to choose defaults on, one to report
HALVES = ("develop", "report")

Report = Callable[[float, str], None]


@dataclass(frozen=True)
class FactQuery:
    """A prompt with its true answer, the positions of the texts that state it, and of those that say otherwise."""

    id: str
    prompt: str
    answer: str
    proponents: tuple[int, ...]
    fact: str
    opponents: tuple[int, ...] = ()  # known for the demo's falsehoods: sentences that tell the truth


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
        about = [place for place, own in enumerate(audit.ids) if truth.fact_of_row[own] == asked.fact]
        teaching = tuple(place for place in about if truth.answer_of_row[audit.ids[place]] == asked.taught)
        others = tuple(place for place in about if place not in teaching)
        queries.append(FactQuery(asked.id, asked.prompt, asked.taught, teaching, asked.fact, others))
    return _halved(DEMO, audit, queries)


def large_set(data: Path, work: Path, *, n_texts: int, report: Report) -> FactSet:
    """Return a large corpus for the cost of a query: the texts of all sets, then the same with another opening.

    Its model of 2 M parameters has seen them for one pass over some: what a query costs does not depend on weights.
    """
    folder = work / f"{LARGE}-{n_texts}"
    make_folder(folder)
    if not (folder / "train.parquet").is_file():
        own = [str(text) for name in SETS for text in pd.read_parquet(data / name / "corpus.parquet")["text"]]
        texts = [
            text if round_ == 0 else f"{OPENINGS[(round_ - 1) % len(OPENINGS)]} {text}"
            for round_ in range(1 + n_texts // len(own))
            for text in own
        ]
        table = pd.DataFrame({"id": [f"t{number}" for number in range(n_texts)], "text": texts[:n_texts]})
        table.to_parquet(folder / "train.parquet")
    config = {
        "name": folder.name,
        "task": "causal-lm",
        "model": {"kind": "baseline", "path": "model/"},
        "train": {"kind": "parquet", "path": "train.parquet", "id": "id", "text": "text"},
    }
    (folder / "project.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    if not (folder / "model" / "model.safetensors").is_file():
        report(0.0, "Training a model on some of the texts")
        _write_large_model(folder)
    audit = load_tracing(folder)
    queries = pd.read_parquet(data / SETS[0] / "queries.parquet").head(2)
    asked = tuple(FactQuery(str(row.query_id), row.prompt, row.target, (), "") for row in queries.itertuples())
    return FactSet(LARGE, audit, asked, asked)


def _write_large_model(folder: Path) -> None:
    texts = pd.read_parquet(folder / "train.parquet")["text"].tolist()[:4_000]
    tokenizer = trained_tokenizer(texts, LARGE_SHAPE.vocabulary, "causal-lm")
    module = language_module("causal-lm", LARGE_SHAPE, len(tokenizer), seed=0)
    objective = LanguageModelling("causal-lm")
    model = LanguageModel(module, tokenizer, objective, LARGE_SHAPE.context, 0, tokenizer.eos_token_id, "", LARGE)
    pieces = pieces_of(model, texts)
    train_language(module, objective, pieces.lengths, pieces.batch, LanguageTraining(epochs=1, learning_rate=2e-3))
    make_folder(folder / "model")
    module.save_pretrained(folder / "model")  # type: ignore[operator]
    tokenizer.save_pretrained(folder / "model")


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
