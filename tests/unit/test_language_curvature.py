"""Curvature and cached last block of language models, against slow references."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from forwardinf_core.errors import ModelError
from forwardinf_core.influence.language import LanguageTask
from forwardinf_core.influence.language_curvature import SHARED_SHARE, LanguageCurvature, fit_language_curvature
from forwardinf_core.influence.language_head import HeadApart, LanguageHead, entering_head
from forwardinf_core.influence.language_parts import blocks_of, head_matrix, matrices_of, names_in
from forwardinf_core.influence.language_replay import HIDDEN, ReplayNetwork, entering_last_block
from forwardinf_core.influence.network import FullNetwork, RestrictedNetwork
from forwardinf_core.influence.scoring import score_batch
from forwardinf_core.influence.step import query_gradient, take_steps
from forwardinf_core.influence.update import StepOptions
from forwardinf_core.models.language_text import pieces_of, prompt_of
from tests.unit.language_cases import TEXTS, tiny_model


def slow_gradients(task: LanguageTask) -> list[dict[str, torch.Tensor]]:
    """Return every text's gradient by one plain backward pass of its own."""
    model = tiny_model(task, 64)
    module = copy.deepcopy(model.module).requires_grad_(True)
    pieces = pieces_of(model, TEXTS)
    found = []
    for place in range(len(pieces)):
        module.zero_grad()
        batch = pieces.batch([place])
        model.objective.losses(model.objective.outputs(module, batch), batch).sum().backward()
        found.append({n: v.grad.clone() for n, v in module.named_parameters() if v.grad is not None})
    return found


@pytest.mark.parametrize("task", ["causal-lm", "seq2seq-lm"])
def test_the_diagonal_is_the_mean_square_of_the_texts_gradients(task: LanguageTask) -> None:
    model = tiny_model(task, 64)
    pieces = pieces_of(model, TEXTS)
    matrices = matrices_of(model.module, "all")
    halves = [lambda: pieces.batch([0, 1, 2]), lambda: pieces.batch([3, 4, 5])]
    found = fit_language_curvature(model.module, model.objective, matrices, halves, "diagonal")
    slow = slow_gradients(task)
    for part in found.parts:
        expected = torch.stack([one[part.matrix.weight].square() for one in slow]).mean(0)
        own = part.squares if part.matrix.is_transposed else part.squares.T
        assert_close(own, expected, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("kind", ["diagonal", "ekfac"])
def test_self_influence_is_the_gradient_times_its_own_solution(kind: str) -> None:
    model = tiny_model(context=64)
    pieces = pieces_of(model, TEXTS)
    matrices = matrices_of(model.module, "last-block")
    batches = [lambda: pieces.batch(range(6))]
    found = fit_language_curvature(model.module, model.objective, matrices, batches, kind)  # type: ignore[arg-type]
    own = found.self_influences(model.module, model.objective, pieces.batch(range(6)), damping=1e-2)
    names = {matrix.weight for matrix in matrices}
    for place, gradient in enumerate(slow_gradients("causal-lm")):
        chosen = {name: value for name, value in gradient.items() if name in names}
        solved = found.solve([chosen], damping=1e-2)[0]
        expected = sum(float((chosen[name] * solved[name]).sum()) for name in names)
        assert float(own[place]) == pytest.approx(expected, rel=1e-3)


def test_ekfac_keeps_the_trace_of_the_diagonal() -> None:
    model = tiny_model(context=64)
    pieces = pieces_of(model, TEXTS)
    batches = [lambda: pieces.batch(range(6))]
    matrices = matrices_of(model.module, "all")
    sizes = [
        fit_language_curvature(model.module, model.objective, matrices, batches, kind).mean_squared_norm  # type: ignore[arg-type]
        for kind in ("diagonal", "ekfac")
    ]
    assert sizes[0] == pytest.approx(sizes[1], rel=1e-4)


def test_a_curvature_is_the_same_after_it_was_stored() -> None:
    model = tiny_model(context=64)
    pieces = pieces_of(model, TEXTS)
    matrices = matrices_of(model.module, "mlps")
    found = fit_language_curvature(model.module, model.objective, matrices, [lambda: pieces.batch(range(6))], "ekfac")
    again = LanguageCurvature.from_tensors(found.tensors(), matrices)
    gradient = {m.weight: torch.randn_like(dict(model.module.named_parameters())[m.weight]) for m in matrices}
    one, other = found.solve([gradient], damping=1e-3)[0], again.solve([gradient], damping=1e-3)[0]
    for name in gradient:
        assert_close(one[name], other[name])


def test_scopes_name_the_parameters_they_move() -> None:
    module = tiny_model(context=64).module
    assert blocks_of(module)[0] == "transformer.h"
    assert all(name.startswith("transformer.h.1.") for name in names_in(module, "last-block"))
    assert all(".mlp." in name for name in names_in(module, "mlps"))
    assert "transformer.wte.weight" in names_in(module, "all")
    assert not any("wte" in matrix.weight for matrix in matrices_of(module, "all"))
    assert blocks_of(tiny_model("seq2seq-lm", 64).module)[0] == "decoder.block"


def test_a_model_without_blocks_is_refused_by_a_sentence() -> None:
    with pytest.raises(ModelError, match="blocks of this language model cannot be found"):
        blocks_of(nn.Linear(2, 2))


def test_the_replayed_last_block_gives_the_scores_of_the_whole_model() -> None:
    model = tiny_model(context=64)
    pieces = pieces_of(model, TEXTS)
    batch = pieces.batch(range(6))
    replay = ReplayNetwork(model.module, model.objective, batch)
    query = prompt_of(model, "The capital of France is", "Paris").batch()
    whole = RestrictedNetwork(FullNetwork(model.module, model.objective), ["transformer.h.1.*"])
    options = StepOptions(method="sgd", direction="central", rise=0.01)
    hidden = {
        name: entering_last_block(model.module, model.objective, one)[0] for name, one in (("q", query), ("b", batch))
    }
    quick = take_steps(replay, [query | {HIDDEN: hidden["q"]}], options)
    slow = take_steps(whole, [query], options)
    found = score_batch(replay, batch | {HIDDEN: hidden["b"]}, quick, None)
    expected = score_batch(whole, batch, slow, None)
    assert_close(found, expected, rtol=1e-2, atol=1e-6)
    assert expected.abs().max() > 1e-5


def test_the_replay_leaves_the_users_model_alone_and_shares_its_weights() -> None:
    model = tiny_model(context=64)
    batch = pieces_of(model, TEXTS).batch([0])
    before = model.objective.outputs(model.module, batch)
    replay = ReplayNetwork(model.module, model.objective, batch)
    assert torch.equal(model.objective.outputs(model.module, batch), before)
    shared = dict(replay.module.named_parameters())["transformer.h.1.mlp.c_fc.weight"]
    assert shared is dict(model.module.named_parameters())["transformer.h.1.mlp.c_fc.weight"]


def test_blocks_that_hand_on_more_than_hidden_states_are_refused_by_name() -> None:
    model = tiny_model("seq2seq-lm", 64)
    batch = pieces_of(model, TEXTS).batch([0, 1])
    with pytest.raises(ModelError, match=r"decoder\.block cannot be run on its own"):
        ReplayNetwork(model.module, model.objective, batch)


def test_a_curvature_step_is_the_solved_gradient() -> None:
    model = tiny_model(context=64)
    pieces = pieces_of(model, TEXTS)
    matrices = matrices_of(model.module, "last-block")
    curvature = fit_language_curvature(
        model.module, model.objective, matrices, [lambda: pieces.batch(range(6))], "diagonal"
    )
    network = RestrictedNetwork(FullNetwork(model.module, model.objective), [m.weight for m in matrices])
    query = prompt_of(model, "The capital of France is", "Paris").batch()
    options = StepOptions(method="curvature", rise=None, learning_rate=0.5, damping=1e-2)
    update = take_steps(network, [query], options, curvature)[0]
    solved = curvature.solve([query_gradient(network, query)[1]], damping=1e-2)[0]
    for name, change in update.changes.items():
        assert_close(change, 0.5 * solved[name])


@pytest.mark.parametrize("task", ["causal-lm", "seq2seq-lm"])
@pytest.mark.parametrize("is_shared", [True, False])
def test_blocks_and_embedding_are_curved_each_by_its_own_kind(task: LanguageTask, is_shared: bool) -> None:
    """Against plain backward passes: a shared embedding has the gradient of what it reads and of what it says."""
    model = tiny_model(task, 64)
    module = copy.deepcopy(model.module).requires_grad_(True)
    layer = module.get_output_embeddings()  # type: ignore[operator]
    if not is_shared:
        layer.weight = nn.Parameter(layer.weight.detach().clone())
    pieces = pieces_of(model, TEXTS)
    matrices = matrices_of(module, "linear")
    assert bool(matrices[-1].readers) == is_shared
    batches = [lambda: pieces.batch(range(6))]
    fitted = fit_language_curvature(module, model.objective, matrices, batches, "ekfac")
    found = LanguageCurvature.from_tensors(fitted.tensors(), matrices)
    head = next(part for part in found.parts if part.matrix.is_plain)
    assert head.left is None
    assert head.right is None
    assert all(part.left is not None and part.right is not None for part in found.parts if part is not head)
    names = {matrix.weight for matrix in matrices}
    slow = []
    for place in range(6):
        module.zero_grad()
        batch = pieces.batch([place])
        model.objective.losses(model.objective.outputs(module, batch), batch).sum().backward()
        parameters = dict(module.named_parameters())
        slow.append({name: parameters[name].grad.clone() for name in names})  # type: ignore[union-attr]
    squares = torch.stack([one[head.matrix.weight].square() for one in slow]).mean(0)
    squares = squares * SHARED_SHARE if is_shared else squares
    assert_close(head.squares, squares.T, rtol=1e-3, atol=1e-7)
    assert found.damping_of(head, 0.5) == pytest.approx(0.5 * float(squares.mean()), rel=1e-3)
    own = found.self_influences(module, model.objective, pieces.batch(range(6)), damping=1e-2)
    for place, gradient in enumerate(slow):
        solved = found.solve([gradient], damping=1e-2)[0]
        expected = sum(float((gradient[name] * solved[name]).sum()) for name in names)
        assert float(own[place]) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("task", ["causal-lm", "seq2seq-lm"])
def test_a_head_apart_moves_what_is_said_and_not_what_is_read(task: LanguageTask) -> None:
    model = tiny_model(task, 64)
    batch = pieces_of(model, TEXTS).batch(range(6))
    network = HeadApart(model.module, model.objective)
    name = head_matrix(model.module).weight
    expected = model.objective.outputs(model.module, batch)
    with torch.no_grad():
        assert_close(network.outputs({}, batch), expected)
        change = torch.randn(network.parameters[name].shape, generator=torch.Generator().manual_seed(0))
        moved = network.outputs({name: network.parameters[name] + change}, batch)
    alone = LanguageHead(model.module, model.objective, batch)
    hidden = entering_head(model.module, model.objective, batch)[0]
    assert_close(moved, alone.outputs({name: alone.parameters[name] + change}, batch | {HIDDEN: hidden}))
