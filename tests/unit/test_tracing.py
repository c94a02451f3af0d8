"""Tracing a completion to the texts that taught it: ranking, controls, tokens, groups, storage, bad input."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from forwardinf_core.audits.opening import task_of
from forwardinf_core.audits.tracing.audit import Question, TracingAudit, unchanged_control
from forwardinf_core.audits.tracing.methods import method_names, trace_method
from forwardinf_core.audits.tracing.preparation import Workplace
from forwardinf_core.audits.tracing.records import Said
from forwardinf_core.audits.tracing.scoring import certainty
from forwardinf_core.errors import AuditError, DataError, ProjectError, RunNotFoundError
from forwardinf_core.influence.language_scoring import token_scores
from forwardinf_core.projects.language import language_task_of, open_language_project
from tests.unit.language_cases import TEXTS, write_project

PROMPT = "Paris is the capital of"


def opened(folder: Path) -> TracingAudit:
    project = open_language_project(folder)
    return TracingAudit(project, project.load_model())


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> TracingAudit:
    return opened(write_project(tmp_path_factory.mktemp("sentences")))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> TracingAudit:
    return opened(write_project(tmp_path_factory.mktemp("pairs"), "seq2seq-lm"))


def test_the_model_completes_what_it_was_taught(audit: TracingAudit) -> None:
    said = audit.say(PROMPT)
    assert said.completion == "France"
    assert said.own
    assert said.target_text == "France"
    assert said.loss < 1.0


@pytest.mark.parametrize("name", method_names())
def test_the_text_that_taught_the_completion_helped_most(audit: TracingAudit, name: str) -> None:
    said = audit.say(PROMPT)
    found = audit.trace(audit.question(said), trace_method(name))
    assert TEXTS[int(found.helped(1)[0])].startswith("Paris is the capital"), name
    assert found.rise == pytest.approx(trace_method(name).rise * len(said.target) ** 0.5, rel=0.05)


@pytest.mark.parametrize("name", ["last-block-ekfac", "all-sgd"])
@pytest.mark.parametrize("direction", ["ascent", "descent", "central"])
def test_an_unchanged_model_scores_exactly_zero(audit: TracingAudit, name: str, direction: str) -> None:
    method = trace_method(name, direction=direction)
    assert unchanged_control(audit, method, audit.question(audit.say(PROMPT))) == 0.0


def test_directions_agree_for_a_short_step(audit: TracingAudit) -> None:
    question = audit.question(audit.say(PROMPT))
    found = [
        audit.trace(question, trace_method("blocks-sgd", direction=direction, rise=0.01, form="raw")).scores.raw
        for direction in ("ascent", "descent", "central")
    ]
    np.testing.assert_allclose(found[0], found[2], rtol=0.2, atol=1e-4)
    np.testing.assert_allclose((found[0] + found[1]) / 2, found[2], rtol=1e-2, atol=1e-5)


def test_cached_hidden_states_give_the_scores_of_whole_passes(audit: TracingAudit, tmp_path: Path) -> None:
    from forwardinf_core.audits.tracing.scoring import score_texts

    method = trace_method("last-block-ekfac")
    place = Workplace(audit.model, audit.project.texts, tmp_path, hidden_bound=0)
    assert audit.place.uses_hidden(method)
    assert not place.uses_hidden(method)
    prompts = audit._prompts(audit.question(audit.say(PROMPT)))
    quick = score_texts(audit.place, method, prompts, PROMPT).scores.raw
    slow = score_texts(place, method, prompts, PROMPT).scores.raw
    np.testing.assert_allclose(quick, slow, rtol=2e-2, atol=1e-5)


@pytest.mark.parametrize("task", ["audit", "pairs"])
@pytest.mark.parametrize("direction", ["ascent", "descent"])
def test_after_a_long_step_one_pass_gives_the_scores_of_two(
    task: str, direction: str, request: pytest.FixtureRequest
) -> None:
    from forwardinf_core.audits.tracing.scoring import piece_scores, step_on

    asked: TracingAudit = request.getfixturevalue(task)
    method = trace_method("linear-ekfac", direction=direction)
    question = asked.question(asked.say(PROMPT, "Berlin"))
    assert method.is_far
    assert unchanged_control(asked, method, question) == 0.0
    update = step_on(asked.place, method, asked._prompts(question))
    positions = asked.place.batches[0]
    both = token_scores(asked.place.network(method), asked.place.batch_for(method, positions), update).sum(1)
    torch.testing.assert_close(piece_scores(asked.place, method, positions, update), both, rtol=1e-4, atol=1e-5)


def test_tokens_of_a_text_add_up_to_its_score(audit: TracingAudit) -> None:
    found = audit.trace(audit.question(audit.say(PROMPT)))
    best = int(found.helped(1)[0])
    shares = audit.tokens(found, best)
    assert sum(share.score for share in shares) == pytest.approx(float(found.scores.raw[best]), rel=1e-2)
    assert "".join(share.text for share in shares).strip() == TEXTS[best]


@pytest.mark.parametrize(
    "name",
    ["head-ekfac", "head-diagonal", "head-sgd", "last-block-ekfac", "blocks-ekfac", "linear-ekfac", "linear-diagonal"],
)
def test_a_pair_that_taught_the_answer_helped_most_in_a_sequence_to_sequence_model(
    pairs: TracingAudit, name: str
) -> None:
    said = pairs.say("The capital of Germany", "Berlin")
    question = pairs.question(said)
    found = pairs.trace(question, trace_method(name))
    assert pairs.project.texts.targets is not None
    assert pairs.project.texts.targets[int(found.helped(1)[0])] == "Berlin"
    assert unchanged_control(pairs, trace_method(name), question) == 0.0


def test_a_step_on_the_head_leaves_what_the_model_reads(audit: TracingAudit) -> None:
    """Input and output embeddings are one tensor here; only the output's copy moves, and the loss is the model's."""
    from forwardinf_core.audits.tracing.scoring import step_on

    method = trace_method("head-ekfac")
    prompts = audit._prompts(audit.question(audit.say(PROMPT)))
    update = step_on(audit.place, method, prompts)
    assert list(update.changes) == ["lm_head.weight"]
    batch = prompts[0].batch()
    whole = audit.model.objective.losses(audit.model.objective.outputs(audit.model.module, batch), batch)
    assert update.loss_before == pytest.approx(float(whole), rel=1e-4)


def test_two_threads_get_what_each_would_get_alone(audit: TracingAudit) -> None:
    """A pass with moved weights puts them into the module for its time: nobody else may run it then."""
    prompts = ["Paris is the capital of", "Berlin is the capital of"]
    method = trace_method("linear-ekfac", rise=0.03)
    alone = [audit.say(prompt) for prompt in prompts]
    scores = [audit.trace(audit.question(said), trace_method("linear-ekfac", rise=0.031)).scores.raw for said in alone]

    def ask(number: int) -> tuple[Said, list[np.ndarray]]:
        said = [audit.say(prompts[number % 2]) for _ in range(3)]
        question = audit.question(said[0])
        found = [
            audit.trace(question, replace(method, rise=0.0301 + 1e-5 * (4 * number + turn))).scores.raw
            for turn in range(3)
        ]
        return said[-1], found

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, range(4)))
    for number, (said, found) in enumerate(answers):
        assert (said.completion, said.loss) == (alone[number % 2].completion, pytest.approx(alone[number % 2].loss))
        for raw in found:
            assert np.corrcoef(raw, scores[number % 2])[0, 1] > 0.9999


def test_an_answer_is_stored_and_read_back(audit: TracingAudit) -> None:
    question = audit.question(audit.say(PROMPT))
    first = audit.trace(question)
    again = opened(audit.folder).open_trace(first.run_id)
    assert again.said.completion == "France"
    np.testing.assert_array_equal(first.scores.influence, again.scores.influence)
    assert audit.stored(question, trace_method("blocks-ekfac", rise=0.2)) is None
    with pytest.raises(RunNotFoundError):
        audit.open_trace("trace-0000000000000000")


def test_another_completion_is_another_question(audit: TracingAudit) -> None:
    own = audit.trace(audit.question(audit.say(PROMPT)))
    other = audit.trace(audit.question(audit.say(PROMPT, "Italy")))
    assert own.run_id != other.run_id
    assert not np.array_equal(own.scores.influence, other.scores.influence)


def test_a_set_of_prompts_is_one_step_on_all_of_them(audit: TracingAudit) -> None:
    question = Question((PROMPT, "The capital of Italy is"), ("France", "Rome"))
    found = audit.trace(question)
    top = {TEXTS[place] for place in found.helped(2).tolist()}
    assert top == {TEXTS[0], TEXTS[1]}


def test_groups_sum_the_scores_of_their_texts(audit: TracingAudit) -> None:
    found = audit.trace(audit.question(audit.say(PROMPT)))
    groups = {group.name: group for group in audit.groups(found, "source")}
    assert groups["a"].influence == pytest.approx(float(found.scores.raw[::2].sum()), rel=1e-5)
    assert groups["a"].n_texts == 3
    assert audit.group_columns() == ("source",)
    with pytest.raises(DataError, match="no column 'nothing'"):
        audit.groups(found, "nothing")


def test_mean_scores_are_sums_by_token(audit: TracingAudit) -> None:
    question = audit.question(audit.say(PROMPT))
    total = audit.trace(question, trace_method("blocks-ekfac", form="raw")).scores.influence
    mean = audit.trace(question, trace_method("blocks-ekfac", form="raw", reduction="mean")).scores.influence
    np.testing.assert_allclose(mean * audit.place.pieces.counted, total, rtol=1e-4)


def test_comparisons_stand_beside_influence(audit: TracingAudit) -> None:
    scores = audit.trace(audit.question(audit.say("The capital of Italy is", "Rome"))).scores
    assert int(scores.bm25.argmax()) == 1
    assert int(scores.overlap.argmax()) == 1
    assert int(scores.ranking("fused")[0]) == 1
    assert scores.embedding.max() <= 1.0 + 1e-5


def test_certainty_is_the_mean_of_the_answers_geometric_means(audit: TracingAudit) -> None:
    asked = [audit._prompts(audit.question(audit.say(*one)))[0] for one in ((PROMPT,), ("Oxygen has the", "symbol O."))]
    slow = []
    for prompt in asked:
        ids = prompt.batch()["input_ids"]
        with torch.inference_mode():
            chances = audit.model.module(input_ids=ids).logits[0].log_softmax(-1)
        said = [float(chances[place - 1, ids[0, place]]) for place in (prompt.batch()["labels"][0] >= 0).nonzero()]
        slow.append(np.exp(np.mean(said)))
    assert certainty(audit.place, asked) == pytest.approx(np.mean(slow), rel=1e-4)


def test_a_sequence_to_sequence_model_is_traced_the_same_way(pairs: TracingAudit) -> None:
    said = pairs.say("The capital of Italy")
    assert said.completion == "Rome"
    found = pairs.trace(pairs.question(said))
    assert int(found.helped(1)[0]) == 1
    assert not pairs.place.can_replay
    shares = pairs.tokens(found, 1)
    assert "".join(share.text for share in shares).strip() == "Rome"
    assert any(share.score for share in shares)


def test_a_method_that_does_not_exist_names_the_near_one() -> None:
    with pytest.raises(AuditError, match="Did you mean blocks-ekfac"):
        trace_method("block-ekfac")
    with pytest.raises(AuditError, match="need a curvature"):
        trace_method("all-sgd", form="relative")


@pytest.mark.parametrize(
    ("prompt", "completion", "words"),
    [
        ("", None, "The prompt is empty"),
        ("x " * 400, None, "the model reads 48"),
        ("Paris is", "", "has no tokens of its own"),
    ],
)
def test_what_cannot_be_asked_is_answered_in_a_sentence(
    audit: TracingAudit, prompt: str, completion: str | None, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        audit.say(prompt, completion)


def test_odd_texts_in_the_corpus_are_scored_like_any_other(audit: TracingAudit, tmp_path: Path) -> None:
    from forwardinf_core.audits.tracing.scoring import score_texts

    class Odd:
        ids = ("emoji", "rtl", "nul", "empty", "markup", "long", "one")
        texts = ("🗼🗼", "باريس", "a\x00b", "", "<script>alert(1)</script>", "word " * 3000, "x")
        targets = None
        fingerprint = "odd"

    place = Workplace(audit.model, Odd(), tmp_path)
    prompts = audit._prompts(audit.question(audit.say(PROMPT)))
    found = score_texts(place, trace_method("last-block-diagonal"), prompts, PROMPT).scores
    assert np.isfinite(found.influence).all()
    assert len(place.pieces.of(np.array([5]))) > 50


def test_the_answer_does_not_depend_on_the_order_of_the_texts(audit: TracingAudit, tmp_path: Path) -> None:
    from forwardinf_core.audits.tracing.scoring import score_texts

    class Turned:
        ids = audit.ids[::-1]
        texts = audit.texts[::-1]
        targets = None
        fingerprint = "turned"

    prompts = audit._prompts(audit.question(audit.say(PROMPT)))
    method = replace(trace_method("blocks-diagonal"))
    own = score_texts(audit.place, method, prompts, PROMPT).scores.influence
    turned = score_texts(Workplace(audit.model, Turned(), tmp_path), method, prompts, PROMPT).scores.influence
    np.testing.assert_allclose(own, turned[::-1], rtol=1e-2, atol=1e-5)


def test_a_language_project_is_told_from_others_and_its_mistakes_are_named(tmp_path: Path) -> None:
    (tmp_path / "project.yaml").write_text("name: x\ntask: causal-lm\nmodel: {kind: baseline, path: model}\n")
    assert language_task_of(tmp_path) == "causal-lm"
    assert task_of(tmp_path) == "causal-lm"
    with pytest.raises(ProjectError, match="train is missing"):
        open_language_project(tmp_path)
    (tmp_path / "project.yaml").write_text(
        "name: x\ntask: causal-lm\nmodel: {kind: baseline, path: model, mirrors: true}\n"
        "train: {kind: jsonl, path: a.jsonl, text: text}\n"
    )
    with pytest.raises(ProjectError, match="wrong") as refused:
        open_language_project(tmp_path)
    assert "model.mirrors is given" in str(refused.value.hint)
