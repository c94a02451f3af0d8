"""The demo ``facts``: real facts in several wordings each, and a small language model trained on them here.

A few falsehoods are planted, openly: columns of the training rows say which, and what is true. Same seed and same
number of threads, same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import yaml

from forwardinf_core.influence.language import LanguageModelling
from forwardinf_core.models.language import LanguageModel
from forwardinf_core.models.language_baseline import LanguageShape, language_module, trained_tokenizer
from forwardinf_core.models.language_text import pieces_of
from forwardinf_core.models.language_training import LanguageState, LanguageTraining, train_language
from forwardinf_core.projects.demos.building import Report, is_built, read_mark, whole_folder
from forwardinf_core.projects.demos.facts_table import FALSEHOODS, PHRASINGS, Fact, all_facts, said

DEMO = "facts"
VERSION = 1  # raised whenever the demo is built otherwise: an older one is then built again
SEED = 20240805  # fixed once and for all; chosen as a date, not by its results
TRUE_BESIDE_FALSE = 1  # wordings of the truth left in beside a falsehood, so that both can be found
SHAPE = LanguageShape(vocabulary=3_072, width=128, layers=2, heads=4, context=48)
TRAINING = LanguageTraining(epochs=14, batch_tokens=512, learning_rate=3e-3, seed=SEED)
ORIGIN = "Facts about countries, elements, books, paintings, planets and animals, written down for this demo."


@dataclass(frozen=True, slots=True)
class FactRow:
    """One training sentence, and which fact it states or falsifies."""

    id: str
    text: str
    fact: str
    relation: str
    answer: str  # as the sentence has it
    true_answer: str

    @property
    def is_false(self) -> bool:
        """Say whether the sentence was made false on purpose."""
        return self.answer != self.true_answer


@dataclass(frozen=True, slots=True)
class FactQuestion:
    """A prompt in words no training sentence has, with the fact it is about."""

    id: str
    prompt: str
    completion: str  # the true answer
    fact: str
    taught: str  # the answer most training sentences give: a falsehood where one was planted


@dataclass(frozen=True, slots=True)
class FactsTruth:
    """What is known of the demo because it was written: which sentence states which fact."""

    sentences: tuple[str, ...]
    questions: tuple[FactQuestion, ...]
    fact_of_row: dict[str, str]
    false_rows: frozenset[str]
    answer_of_row: dict[str, str]


def training_rows() -> list[FactRow]:
    """Return the demo's training sentences in a seeded order."""
    rows = []
    for fact in all_facts():
        taught = PHRASINGS[fact.relation].taught
        false = FALSEHOODS.get(fact.id)
        for number, phrasing in enumerate(taught):
            answer = false if false is not None and number >= TRUE_BESIDE_FALSE else fact.answer
            name = f"{fact.relation}-{fact.subject.replace(' ', '_')}-{number}"
            rows.append(
                FactRow(name, said(phrasing, fact.subject, answer), fact.id, fact.relation, answer, fact.answer)
            )
    order = np.random.default_rng(SEED).permutation(len(rows))
    return [rows[index] for index in order.tolist()]


def questions() -> list[FactQuestion]:
    """Return a question for every fact, worded as no training sentence is."""
    return [_question(fact) for fact in all_facts()]


def build_facts(folder: Path, report: Report) -> None:
    """Build the demo in ``folder``, or leave one of this version as it is. Takes about a minute on two idle cores.

    What ``report`` raises stops the build and leaves nothing behind.
    """
    if is_built(folder, DEMO, VERSION):
        report(1.0, "The facts demo is there already")
        return
    with whole_folder(folder, DEMO, VERSION) as building:
        report(0.0, "Writing the facts")
        rows = training_rows()
        pa.parquet.write_table(_train_table(rows), building / "train.parquet")
        pa.parquet.write_table(_test_table(questions()), building / "test.parquet")
        (building / "project.yaml").write_text(yaml.safe_dump(_project(), sort_keys=False), encoding="utf-8")
        (building / "README.md").write_text(_readme(rows), encoding="utf-8")
        (building / "model").mkdir()
        _train_model([row.text for row in rows], building / "model", report)
    report(1.0, "The facts demo is ready")


def facts_truth(folder: Path) -> FactsTruth | None:
    """Return what is known of the facts demo, read from its columns; None for the folder of any other project."""
    mark = read_mark(folder)
    if mark is None or mark[0] != DEMO:
        return None
    rows = pa.parquet.read_table(folder / "train.parquet").to_pylist()
    asked = pa.parquet.read_table(folder / "test.parquet").to_pylist()
    false = frozenset(row["id"] for row in rows if row["planted_false"])
    facts = {row["fact"] for row in rows if row["planted_false"]}
    sentences = (
        f"{len(rows):,} sentences state {len({row['fact'] for row in rows})} facts, in five to seven wordings each.",
        f"{len(false)} of them are false on purpose, about {len(facts)} facts: the model repeats most of these.",
    )
    return FactsTruth(
        sentences,
        tuple(FactQuestion(**row) for row in asked),
        {row["id"]: row["fact"] for row in rows},
        false,
        {row["id"]: row["answer"] for row in rows},
    )


def _question(fact: Fact) -> FactQuestion:
    prompt = said(PHRASINGS[fact.relation].asked, fact.subject, "").strip()
    taught = FALSEHOODS.get(fact.id, fact.answer)
    return FactQuestion(f"{fact.relation}-{fact.subject.replace(' ', '_')}", prompt, fact.answer, fact.id, taught)


def _train_table(rows: list[FactRow]) -> pa.Table:
    return pa.table(
        {
            "id": [row.id for row in rows],
            "text": [row.text for row in rows],
            "relation": [row.relation for row in rows],
            "fact": [row.fact for row in rows],
            "answer": [row.answer for row in rows],
            "true_answer": [row.true_answer for row in rows],
            "planted_false": [row.is_false for row in rows],
        }
    )


def _test_table(asked: list[FactQuestion]) -> pa.Table:
    names = ("id", "prompt", "completion", "fact", "taught")
    return pa.table({name: [getattr(one, name) for one in asked] for name in names})


def _project() -> dict[str, object]:
    return {
        "name": "Facts",
        "task": "causal-lm",
        "model": {"kind": "baseline", "path": "model/"},
        "train": {"kind": "parquet", "path": "train.parquet", "id": "id", "text": "text"},
        "test": {"kind": "parquet", "path": "test.parquet", "id": "id", "text": "prompt"},
    }


def _readme(rows: list[FactRow]) -> str:
    false = sum(row.is_false for row in rows)
    return f"""# Facts

{ORIGIN}

Built by the Forward-INF auditor (seed {SEED}); delete this folder to have it built again.

- `train.parquet`: {len(rows):,} sentences. `fact` says which fact a sentence is about.
- `test.parquet`: one prompt for each fact, in words that no training sentence has.
- `model/`: a small GPT-2-shaped language model and its tokenizer, trained on `train.parquet`, falsehoods included.

Planted on purpose: {false} sentences are false. `planted_false` marks them, `true_answer` holds what is true.
Nothing of this reaches the model but `text`; the other columns are there to compare answers with.
"""


def _train_model(texts: list[str], folder: Path, report: Report) -> None:
    report(0.02, "Learning the words")
    tokenizer = trained_tokenizer(texts, SHAPE.vocabulary, "causal-lm")
    module = language_module("causal-lm", SHAPE, len(tokenizer), seed=SEED)
    model = LanguageModel(
        module, tokenizer, LanguageModelling("causal-lm"), SHAPE.context, 0, tokenizer.eos_token_id, "", str(folder)
    )
    pieces = pieces_of(model, texts)

    def on_epoch(state: LanguageState) -> None:
        note = f"Training the language model: round {state.epoch} of {TRAINING.epochs}"
        report(0.05 + 0.95 * state.epoch / TRAINING.epochs, note)

    train_language(module, model.objective, pieces.lengths, pieces.batch, TRAINING, on_epoch=on_epoch)
    module.save_pretrained(folder)  # type: ignore[operator]
    tokenizer.save_pretrained(folder)
