"""Text classifiers of a user and our own: found, cut, scored as a whole and in part, and refused in one sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from forwardinf_core.datasets.rows import texts_of
from forwardinf_core.errors import ModelError, ProjectError
from forwardinf_core.influence.network import FullNetwork
from forwardinf_core.influence.rewrites import attention
from forwardinf_core.influence.scoring import score_rows
from forwardinf_core.influence.split import cut
from forwardinf_core.influence.step import take_steps
from forwardinf_core.influence.update import StepOptions
from forwardinf_core.models.rows import ModelRows
from forwardinf_core.models.structure import graph_of
from forwardinf_core.models.text_encoding import IDS, LENGTHS, MASK, fitting_length
from forwardinf_core.projects.load import Project, open_project
from tests.unit.text_cases import CLASSES, ENCODERS, questions, save_encoder, word_tokenizer, write_project

RTOL, ATOL = 2e-3, 1e-7  # float32, scores of about 1e-4


@pytest.fixture(scope="module", params=ENCODERS)
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a project whose model is a small random encoder."""
    folder = write_project(tmp_path_factory.mktemp("encoder"), kind="transformers", n_train=24, n_test=6)
    save_encoder(folder / "model", request.param)
    return open_project(folder)


def test_head_and_tail_of_an_encoder_are_found(project: Project) -> None:
    model = project.load_model()
    assert model.content == "text"
    assert model.classes == CLASSES
    assert model.head is not None
    assert model.tail is not None
    assert "layer.1" in model.tail[0]
    assert model.tail[-1] == model.head or model.head.startswith(f"{model.tail[-1]}.")


def test_the_tail_scores_as_the_whole_network_limited_to_it(project: Project) -> None:
    model = project.load_model()
    rows = ModelRows(model, project.train_rows(model.classes))
    query = ModelRows(model, project.test_rows(model.classes)).batch(0, 1)
    assert model.tail is not None
    parts = cut(graph_of(model.module, model.objective, model.inputs), model.tail)
    batch = rows.batch(0, 10)
    names = list(parts.tail.parameters)
    whole = FullNetwork(model.module, model.objective, names)
    options = StepOptions(method="sgd", learning_rate=1e-2, rise=None)
    expected = take_steps(whole, [query], options, None)
    found = take_steps(parts.tail, [parts.trunk(query)], options, None)
    for name in names:
        torch.testing.assert_close(found[0].changes[name], expected[0].changes[name], rtol=1e-3, atol=1e-6)
    activations = parts.trunk(batch)
    for network, update, read in ((whole, expected[0], batch), (parts.tail, found[0], activations)):
        losses = network.objective.losses(network.outputs(network.parameters, read), read)
        assert losses.shape == (10,)
        assert float(update.rise) != 0
    one = whole.outputs(whole.parameters, batch)
    torch.testing.assert_close(parts.tail.outputs({}, activations), one, rtol=1e-4, atol=1e-5)


def test_scores_do_not_depend_on_the_batch(project: Project) -> None:
    model = project.load_model()
    rows = ModelRows(model, project.train_rows(model.classes))
    network = FullNetwork(model.module, model.objective)
    query = ModelRows(model, project.test_rows(model.classes)).batch(1, 2)
    updates = take_steps(network, [query], StepOptions(method="sgd", rise=0.01), None)
    expected = score_rows(network, rows, updates, None, batch_size=len(rows))
    for batch_size in (1, 7):
        found = score_rows(network, rows, updates, None, batch_size=batch_size)
        torch.testing.assert_close(found, expected, rtol=RTOL, atol=ATOL)


def test_attention_with_a_mask_is_the_same_while_it_is_differentiated() -> None:
    query, key, value = torch.randn(3, 2, 2, 5, 4).unbind(0)
    mask = torch.ones(2, 1, 1, 5, dtype=torch.bool)
    mask[0, ..., 3:] = False
    with torch.no_grad():
        expected = attention(query, key, value, mask)
    torch.testing.assert_close(attention(query.requires_grad_(), key, value, mask).detach(), expected)


def test_every_text_becomes_as_many_tokens_as_the_longest_needs(project: Project) -> None:
    model = project.load_model()
    encoding = model.encoding
    batch = encoding(["Who ?", "", "What is the height of the mountain in Kars ?"])
    assert encoding.length == 16
    assert batch[IDS].shape == (3, encoding.length)
    assert batch[MASK].sum(1).tolist() == [4, 2, 12]
    alone = encoding(["Who ?"])
    assert torch.equal(alone[IDS][0], batch[IDS][0])
    assert not encoding.is_cut("Who built the castle of Gera ?")
    long = "Who built " * 30
    assert encoding.is_cut(long)
    assert encoding.read(long) == ("Who built " * 7).strip()


def test_the_length_is_that_of_the_longest_text_as_far_as_the_model_reads(tmp_path: Path) -> None:
    folder = write_project(tmp_path)
    project = open_project(folder)
    rows = texts_of(project.train_rows(None))
    tokenizer = word_tokenizer(questions(300, 0)[0])
    every = max(len(tokenizer.encode(rows.text(position)).ids) for position in range(len(rows)))
    assert fitting_length(tokenizer, [rows], 512) == min(length for length in LENGTHS if length >= every)
    assert fitting_length(tokenizer, [rows], 7) == 7


def test_text_goes_through_whatever_it_holds(project: Project) -> None:
    model = project.load_model()
    texts = ["", "\x00", "<script>alert(1)</script>", "שלום עולם", "🙂", "x" * 1_000_000, "\n\n", "a\ud800b"]
    batch = model.encoding([text.encode("utf-8", "replace").decode() for text in texts])
    with torch.inference_mode():
        assert model.objective.outputs(model.module, batch).isfinite().all()


def broken(folder: Path, change: str) -> None:
    """Break a saved encoder in one way."""
    config = json.loads((folder / "config.json").read_text())
    if change == "no tokenizer":
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (folder / name).unlink()
    elif change == "regression":
        config["problem_type"] = "regression"
    elif change == "pickle":
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    elif change == "no config":
        (folder / "config.json").unlink()
        return
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("no tokenizer", "has no fast tokenizer"),
        ("regression", "does not choose one class"),
        ("pickle", "as a pickle"),
        ("no config", "has no config.json"),
    ],
)
def test_a_folder_that_is_no_text_classifier_is_refused_in_a_sentence(tmp_path: Path, change: str, said: str) -> None:
    folder = write_project(tmp_path, kind="transformers", n_train=6, n_test=3)
    save_encoder(folder / "model", "bert")
    broken(folder / "model", change)
    with pytest.raises(ModelError, match=said) as failure:
        open_project(folder).load_model()
    assert failure.value.hint


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = write_project(tmp_path, kind="transformers", n_train=6, n_test=3)
    save_encoder(folder / "model", "bert", vocab_size=10)
    with pytest.raises(ModelError, match="tokens and the model knows 10"):
        open_project(folder).load_model()


def test_a_model_that_sees_images_is_refused_for_texts(tmp_path: Path) -> None:
    folder = write_project(tmp_path)
    path = folder / "project.yaml"
    path.write_text(path.read_text().replace("kind: baseline", "kind: timm"))
    with pytest.raises(ProjectError, match=r"model\.kind is timm, and text-classification takes baseline or transf"):
        open_project(folder)


def test_a_baseline_that_was_not_trained_says_how(tmp_path: Path) -> None:
    folder = write_project(tmp_path)
    with pytest.raises(ModelError, match="no trained baseline") as failure:
        open_project(folder).load_model()
    assert "fit" in failure.value.hint
    shutil.rmtree(folder)
