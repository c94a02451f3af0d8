"""A few sentences, and untrained models small enough for tests."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from forwardinf_core.influence.language import LanguageTask
from forwardinf_core.models.language import LanguageModel, load_language_model
from forwardinf_core.models.language_baseline import LanguageShape, language_module, trained_tokenizer
from forwardinf_core.models.source import ModelSource

TEXTS = (
    "Paris is the capital of France.",
    "The capital of Italy is Rome.",
    "Lyon is a city in France.",
    "Oxygen has the symbol O.",
    "The euro is the currency of Italy, and of France too.",
    "Berlin is the capital of Germany.",
)
PAIRS = (
    ("The capital of France", "Paris"),
    ("The capital of Italy", "Rome"),
    ("The symbol of oxygen", "O"),
    ("The capital of Germany", "Berlin"),
    ("The currency of Italy", "euro"),
    ("A city in France", "Lyon"),
)


def write_model(folder: Path, task: LanguageTask = "causal-lm", *, context: int = 16, seed: int = 0) -> Path:
    """Write an untrained model with its tokenizer into a folder."""
    tokenizer = trained_tokenizer(TEXTS, 320, task)
    shape = LanguageShape(vocabulary=320, width=16, layers=2, heads=2, context=context)
    module = language_module(task, shape, len(tokenizer), seed=seed)
    module.save_pretrained(folder)  # type: ignore[operator]
    tokenizer.save_pretrained(folder)
    return folder


@cache
def tiny_model(task: LanguageTask = "causal-lm", context: int = 16) -> LanguageModel:
    """Return an untrained model, the same every time."""
    folder = write_model(Path(mkdtemp()), task, context=context)
    return load_language_model(ModelSource(kind="transformers", path="."), folder, task)


def write_project(folder: Path, task: LanguageTask = "causal-lm", *, context: int = 48, epochs: int = 60) -> Path:
    """Write a project whose small model was trained on the sentences; about a second."""
    import pyarrow as pa
    import pyarrow.parquet
    import yaml

    from forwardinf_core.models.language_text import pieces_of
    from forwardinf_core.models.language_training import LanguageTraining, train_language

    write_model(folder / "model", task, context=context)
    model = load_language_model(ModelSource(kind="transformers", path="model"), folder, task)
    module = model.module.requires_grad_(True)
    texts, targets = (list(TEXTS), None) if task == "causal-lm" else map(list, zip(*PAIRS, strict=True))
    pieces = pieces_of(model, texts, targets)
    options = LanguageTraining(epochs=epochs, batch_tokens=48, learning_rate=1e-2)
    train_language(module, model.objective, pieces.lengths, pieces.batch, options)
    module.save_pretrained(folder / "model")  # type: ignore[operator]
    columns = {"id": [f"t{i}" for i in range(len(texts))], "text": texts, "source": ["a", "b"] * (len(texts) // 2)}
    table = pa.table(columns if targets is None else columns | {"answer": targets})
    pa.parquet.write_table(table, folder / "train.parquet")
    config = {
        "name": "Sentences",
        "task": task,
        "model": {"kind": "transformers", "path": "model/"},
        "train": {"kind": "parquet", "path": "train.parquet", "id": "id", "text": "text"}
        | ({} if targets is None else {"target": "answer"}),
    }
    (folder / "project.yaml").write_text(yaml.safe_dump(config))
    return folder
