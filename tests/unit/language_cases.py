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
