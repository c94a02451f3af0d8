"""Texts as tokens and back: pieces of long documents, questions, completions, and everything odd a text may hold."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from forwardinf_core.errors import DataError, ModelError
from forwardinf_core.influence.language import IGNORED
from forwardinf_core.models.language import load_language_model
from forwardinf_core.models.language_completion import ENDED, alternatives, complete, losses_of_tokens, tokens_of
from forwardinf_core.models.language_text import pieces_of, prompt_of, prompt_tokens
from forwardinf_core.models.source import ModelSource
from tests.unit.language_cases import TEXTS, tiny_model, write_model

ODD = {
    "emoji": "Paris 🗼 is in France 👩‍👩‍👧.",
    "right to left": "باريس هي عاصمة فرنسا",
    "NUL bytes": "Paris\x00 is the\x00 capital.",
    "markup": "<script>alert('Paris')</script> & <b>bold</b>",
    "lone surrogate escapes": "caf\u00e9 \u200f \ufeff x",
}


def test_a_long_document_is_cut_so_that_every_token_but_the_first_is_predicted_once() -> None:
    model = tiny_model(context=8)
    text = " ".join(TEXTS)
    tokens = model.tokenizer(text)["input_ids"]
    pieces = pieces_of(model, [text])
    assert len(pieces) > 3
    predicted = sorted(
        start + place
        for start, piece in zip(pieces.start.tolist(), pieces.inputs, strict=True)
        for place in range(1, len(piece))
    )
    assert predicted == list(range(1, len(tokens)))
    assert pieces.counted.tolist() == [len(tokens) - 1]


def test_losses_of_pieces_add_up_to_their_documents() -> None:
    model = tiny_model(context=8)
    pieces = pieces_of(model, TEXTS)
    batch = pieces.batch(range(len(pieces)))
    losses = losses_of_tokens(model, batch).sum(1).double().numpy()
    alone = []
    for text in TEXTS:
        own = pieces_of(model, [text])
        alone.append(float(losses_of_tokens(model, own.batch(range(len(own)))).sum()))
    assert pieces.by_document(losses) == pytest.approx(alone, rel=1e-4)


def test_pieces_are_ordered_by_length_and_padding_is_masked() -> None:
    pieces = pieces_of(tiny_model(), TEXTS)
    assert pieces.lengths == sorted(pieces.lengths)
    batch = pieces.batch([0, len(pieces) - 1])
    padded = batch["attention_mask"] == 0
    assert padded.any()
    assert (batch["labels"][padded] == IGNORED).all()


def test_texts_of_one_token_and_empty_texts_have_no_piece_and_count_no_token() -> None:
    model = tiny_model()
    pieces = pieces_of(model, ["", "a"])
    assert pieces.n_documents == 2
    assert pieces.counted.tolist() == [1, 2]
    assert len(pieces_of(tiny_model("seq2seq-lm"), [""])) == 0


@pytest.mark.parametrize("name", list(ODD))
def test_any_text_has_tokens_a_finite_loss_and_a_completion(name: str) -> None:
    model = tiny_model(context=64)
    pieces = pieces_of(model, [ODD[name]])
    assert torch.isfinite(losses_of_tokens(model, pieces.batch([0]))).all()
    assert isinstance(complete(model, ODD[name], longest=3), str)
    asked = prompt_of(model, ODD[name], "France")
    assert "".join(asked.text[start:stop] for start, stop in asked.places[-1:]).endswith("e")


def test_the_target_is_the_completion_alone() -> None:
    model = tiny_model()
    asked = prompt_of(model, "The capital of France is", "Paris")
    said = "".join(asked.text[slice(*asked.places[index])] for index in asked.target)
    assert said.strip() == "Paris"
    batch = asked.batch()
    assert int((batch["labels"] != IGNORED).sum()) == len(asked.target)


def test_several_spans_can_be_asked_about() -> None:
    asked = prompt_of(tiny_model(), "The capital of France is", "Paris", span=(2, 4))
    assert asked.target == (2, 4)


def test_probabilities_of_tokens_are_the_models() -> None:
    model = tiny_model()
    asked = prompt_of(model, "The capital of France is", "Paris")
    found = tokens_of(model, asked, len("The capital of France is"))
    assert math.isnan(found[0].probability)
    logits = model.module(input_ids=torch.tensor([asked.ids])).logits[0].softmax(-1)
    assert found[-1].probability == pytest.approx(float(logits[-2, asked.ids[-1]].detach()), rel=1e-4)
    assert [token.in_prompt for token in found][-1] is False
    assert found[1].in_prompt


def test_a_character_of_several_tokens_is_shown_once() -> None:
    text = ODD["emoji"]
    asked = prompt_of(tiny_model(context=64), text, "France")
    found = tokens_of(tiny_model(context=64), asked, len(text))
    assert "".join(token.text for token in found) == asked.text
    assert sum("🗼" in token.text for token in found) == 1


def test_the_first_alternative_is_the_completion_and_the_others_begin_otherwise() -> None:
    model = tiny_model()
    found = alternatives(model, "Paris is")
    assert complete(model, "Paris is") == found[0].text
    assert [one.probability for one in found] == sorted((one.probability for one in found), reverse=True)


def test_sequence_to_sequence_questions_read_the_prompt_and_ask_about_the_completion() -> None:
    model = tiny_model("seq2seq-lm")
    asked = prompt_of(model, "capital of France", "Paris")
    batch = asked.batch()
    assert batch["input_ids"].shape[1] == len(model.tokenizer("capital of France")["input_ids"])
    assert (batch["labels"] != IGNORED).all()
    assert isinstance(complete(model, "capital of France", longest=3), str)
    pairs = pieces_of(model, ["capital of France"], ["Paris"])
    assert model.tokenizer.decode(pairs.targets[0]).strip().startswith("Paris")


@pytest.mark.parametrize("prompt", ["", "   ", "\n\t"])
def test_an_empty_prompt_is_refused_in_a_sentence(prompt: str) -> None:
    with pytest.raises(DataError, match="The prompt is empty"):
        complete(tiny_model(), prompt)


def test_a_prompt_longer_than_the_context_is_refused_with_both_numbers() -> None:
    with pytest.raises(DataError, match="reads 16"):
        prompt_of(tiny_model(), " ".join(TEXTS), "Paris")
    with pytest.raises(DataError, match="reads 16"):
        prompt_tokens(tiny_model(), " ".join(TEXTS))


def test_a_completion_without_tokens_is_refused() -> None:
    with pytest.raises(DataError, match="has no tokens of its own"):
        prompt_of(tiny_model(), "Paris is", "")


def test_a_span_outside_the_text_is_refused() -> None:
    with pytest.raises(DataError, match="There is no token 99"):
        prompt_of(tiny_model(), "Paris is", "Rome", span=(99,))


def test_a_tokenizer_without_a_padding_token_needs_none(tmp_path: Path) -> None:
    import json

    folder = write_model(tmp_path)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("pad_token", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    model = load_language_model(ModelSource(kind="transformers", path="."), folder, "causal-lm")
    assert model.tokenizer.pad_token_id is None
    pieces = pieces_of(model, TEXTS)
    assert torch.isfinite(losses_of_tokens(model, pieces.batch(range(len(pieces))))).all()


def test_a_folder_without_a_model_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="There is no language model"):
        load_language_model(ModelSource(kind="baseline", path="."), tmp_path, "causal-lm")


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="cannot hold code"):
        load_language_model(ModelSource(kind="transformers", path="."), folder, "causal-lm")


def test_the_fingerprint_follows_the_weights(tmp_path: Path) -> None:
    one, other = write_model(tmp_path / "a"), write_model(tmp_path / "b", seed=1)
    source = ModelSource(kind="transformers", path=".")
    first = load_language_model(source, one, "causal-lm").fingerprint
    assert first == load_language_model(source, one, "causal-lm").fingerprint
    assert first != load_language_model(source, other, "causal-lm").fingerprint


def test_documents_can_be_left_out_and_keep_their_numbers() -> None:
    pieces = pieces_of(tiny_model(), TEXTS)
    left = pieces.without(np.array([1, 3]))
    assert sorted(set(left.document.tolist())) == [0, 2, 4, 5]
    assert sorted(set(pieces.of(np.array([1])).document.tolist())) == [1]


@pytest.mark.parametrize(
    ("text", "ended"), [(" Paris.", True), (" J.", False), (" J. R. R. Tolkien.", True), (" Rome", False), ("\n", True)]
)
def test_a_completion_ends_with_a_sentence_but_not_with_an_initial(text: str, ended: bool) -> None:
    assert bool(ENDED.search(text)) is ended
