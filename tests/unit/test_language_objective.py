"""The objective of language models: closed forms, masks, precision, and independence of padding and batch."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from forwardinf_core.influence.language import IGNORED, LanguageModelling
from forwardinf_core.influence.network import FullNetwork
from forwardinf_core.influence.scoring import score_batch
from forwardinf_core.influence.step import take_steps
from forwardinf_core.influence.update import StepOptions
from forwardinf_core.models.language_baseline import LanguageShape, language_module

VOCABULARY = 11
SHAPE = LanguageShape(vocabulary=VOCABULARY, width=8, layers=2, heads=2, context=12)


def causal(reduction: str = "sum") -> LanguageModelling:
    return LanguageModelling("causal-lm", reduction)  # type: ignore[arg-type]


def batch_of(texts: list[list[int]], padding: int = 0) -> dict[str, torch.Tensor]:
    longest = max(len(text) for text in texts) + padding
    inputs = torch.zeros(len(texts), longest, dtype=torch.int64)
    labels = torch.full((len(texts), longest), IGNORED)
    mask = torch.zeros(len(texts), longest, dtype=torch.int64)
    for row, text in enumerate(texts):
        inputs[row, : len(text)] = labels[row, : len(text)] = torch.tensor(text)
        mask[row, : len(text)] = 1
    return {"input_ids": inputs, "labels": labels, "attention_mask": mask}


TEXTS = [[1, 4, 5, 6, 2], [1, 7, 2], [1, 3, 3, 8, 9, 10, 2]]


def test_the_loss_of_a_text_is_the_sum_of_its_tokens_cross_entropies() -> None:
    module = language_module("causal-lm", SHAPE, VOCABULARY, seed=0).eval()
    batch = batch_of(TEXTS)
    found = causal().losses(causal().outputs(module, batch), batch)
    for row, text in enumerate(TEXTS):
        logits = module(input_ids=torch.tensor([text])).logits[0].log_softmax(-1)
        expected = -sum(float(logits[place, token]) for place, token in enumerate(text[1:]))
        assert float(found[row]) == pytest.approx(expected, rel=1e-5)


def test_the_mean_is_the_sum_divided_by_the_tokens_that_count() -> None:
    module = language_module("causal-lm", SHAPE, VOCABULARY, seed=0).eval()
    batch = batch_of(TEXTS)
    outputs = causal().outputs(module, batch)
    counts = torch.tensor([len(text) - 1 for text in TEXTS])
    assert_close(causal("mean").losses(outputs, batch) * counts, causal().losses(outputs, batch))


def test_padding_changes_no_loss() -> None:
    module = language_module("causal-lm", SHAPE, VOCABULARY, seed=0).eval()
    short, wide = batch_of(TEXTS), batch_of(TEXTS, padding=4)
    assert_close(
        causal().losses(causal().outputs(module, short), short),
        causal().losses(causal().outputs(module, wide), wide),
        rtol=1e-5,
        atol=1e-5,
    )


def test_prompt_tokens_outside_the_target_spans_add_nothing() -> None:
    module = language_module("causal-lm", SHAPE, VOCABULARY, seed=0).eval()
    batch = batch_of([TEXTS[2]])
    outputs = causal().outputs(module, batch)
    tokens = causal().token_losses(outputs, batch)[0]
    batch["labels"][0, [0, 1, 3, 4, 6]] = IGNORED  # two spans are left: positions 2 and 5
    assert_close(causal().losses(outputs, batch)[0], tokens[1] + tokens[4])


def test_a_text_of_one_token_has_loss_zero_and_no_gradient() -> None:
    outputs = torch.randn(1, 0, VOCABULARY, requires_grad=True)
    batch = batch_of([[4]])
    assert causal().losses(outputs, batch).tolist() == [0.0]
    assert causal("mean").losses(outputs, batch).tolist() == [0.0]


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_output_gradients_are_those_of_autograd(reduction: str) -> None:
    objective = causal(reduction)
    batch = batch_of(TEXTS)
    outputs = torch.randn(3, 6, VOCABULARY, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(objective.losses(outputs, batch).sum(), outputs)
    assert_close(objective.output_gradients(outputs.detach(), batch), expected)


def test_loss_changes_keep_their_digits_where_a_token_is_fitted() -> None:
    objective, batch = causal(), batch_of([[1, 4]])
    outputs = torch.zeros(1, 1, VOCABULARY)
    outputs[0, 0, 4] = 25.0  # loss about 1e-10
    change = torch.zeros_like(outputs)
    change[0, 0, 3] = 0.5
    rest = math.exp(-25.0)
    expected = math.log1p(rest * math.expm1(0.5) / (1 + 10 * rest))
    assert float(objective.loss_changes(outputs, change, batch)[0]) == pytest.approx(expected, rel=1e-5)


def test_the_gradient_of_the_log_odds_does_not_vanish_on_a_fitted_token() -> None:
    objective, batch = causal(), batch_of([[1, 4]])
    outputs = torch.zeros(1, 1, VOCABULARY)
    outputs[0, 0, 4] = 25.0
    outputs.requires_grad_()
    (gradient,) = torch.autograd.grad(objective.unsaturated_losses(outputs, batch).sum(), outputs)
    assert float(gradient[0, 0, 4]) == pytest.approx(-1.0)
    (fitted,) = torch.autograd.grad(objective.losses(outputs, batch).sum(), outputs)
    assert abs(float(fitted[0, 0, 4])) < 1e-6


def test_an_unchanged_model_scores_exactly_zero_on_every_text() -> None:
    module = language_module("causal-lm", SHAPE, VOCABULARY, seed=0).eval()
    network = FullNetwork(module, causal())
    query = batch_of([[1, 4, 5]])
    update = take_steps(network, [query], StepOptions(method="sgd", learning_rate=0.0, rise=None))[0]
    assert score_batch(network, batch_of(TEXTS), [update], None).abs().max() == 0


def test_the_queried_text_itself_helps_most() -> None:
    module = language_module("causal-lm", SHAPE, VOCABULARY, seed=0).eval()
    network = FullNetwork(module, causal())
    query = batch_of([TEXTS[2]])
    update = take_steps(network, [query], StepOptions(method="sgd", rise=0.01))[0]
    scores = score_batch(network, batch_of(TEXTS), [update], None)[:, 0]
    assert int(scores.argmax()) == 2
    assert float(scores[2]) > 0


def test_sequence_to_sequence_losses_are_those_of_the_target_text() -> None:
    module = language_module("seq2seq-lm", SHAPE, VOCABULARY, seed=0).eval()
    objective = LanguageModelling("seq2seq-lm")
    batch = batch_of([[4, 5, 6, 2]])
    batch["labels"] = torch.tensor([[7, 8, 2]])
    logits = module(input_ids=batch["input_ids"], labels=batch["labels"]).logits[0].log_softmax(-1)
    expected = -sum(float(logits[place, token]) for place, token in enumerate([7, 8, 2]))
    found = objective.losses(objective.outputs(module, batch), batch)
    assert float(found[0]) == pytest.approx(expected, rel=1e-5)
