"""Training of language models: it learns, it repeats, and it can be interrupted."""

from __future__ import annotations

from itertools import chain

import pytest
import torch

from forwardinf_core.errors import DataError
from forwardinf_core.influence.language import LanguageModelling, LanguageTask
from forwardinf_core.models.language_baseline import LanguageShape, language_module
from forwardinf_core.models.language_text import Pieces, pieces_of
from forwardinf_core.models.language_training import (
    LanguageState,
    LanguageTraining,
    batches_of,
    bounded,
    train_language,
)
from tests.unit.language_cases import TEXTS, tiny_model

OPTIONS = LanguageTraining(epochs=6, batch_tokens=64, learning_rate=5e-3)
SHAPE = LanguageShape(width=16, layers=1, heads=2, context=16)


def fresh(task: LanguageTask = "causal-lm") -> tuple[torch.nn.Module, LanguageModelling, Pieces]:
    model = tiny_model(task)
    return language_module(task, SHAPE, len(model.tokenizer), seed=1), model.objective, pieces_of(model, TEXTS)


@pytest.mark.parametrize("task", ["causal-lm", "seq2seq-lm"])
def test_training_lowers_the_loss(task: LanguageTask) -> None:
    module, objective, pieces = fresh(task)
    losses = train_language(module, objective, pieces.lengths, pieces.batch, OPTIONS)
    assert losses[-1] < losses[0] - 0.3
    assert not module.training


def test_interrupted_training_ends_in_the_same_bytes() -> None:
    whole, objective, pieces = fresh()
    kept: list[LanguageState] = []
    train_language(whole, objective, pieces.lengths, pieces.batch, OPTIONS, on_epoch=kept.append)
    resumed, _, _ = fresh()
    state = LanguageState.from_tensors(kept[2].tensors())
    train_language(resumed, objective, pieces.lengths, pieces.batch, OPTIONS, resume=state)
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_every_sequence_is_seen_once_an_epoch_in_another_order() -> None:
    lengths = [3, 9, 4, 4, 7, 12, 3, 5]
    first, second = batches_of(lengths, OPTIONS, 0), batches_of(lengths, OPTIONS, 1)
    assert sorted(chain(*first)) == sorted(chain(*second)) == list(range(8))
    assert first == batches_of(lengths, OPTIONS, 0)


def test_batches_are_bounded_with_their_padding() -> None:
    lengths = [2, 3, 3, 8, 100]
    batches = bounded(range(5), lengths, 20)
    assert batches == [[0, 1, 2], [3], [4]]


def test_training_on_nothing_is_refused() -> None:
    module, objective, pieces = fresh()
    with pytest.raises(DataError, match="no text to train on"):
        train_language(module, objective, [], pieces.batch, OPTIONS)
