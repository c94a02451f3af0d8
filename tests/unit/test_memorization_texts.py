"""Memorized texts of a language model: the score is the self-influence, tokens are told, words stay an estimate."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from forwardinf_core.audits.memorization.reference import reference_of_chances
from forwardinf_core.audits.tracing import memorization
from forwardinf_core.audits.tracing.audit import TracingAudit
from forwardinf_core.audits.tracing.memorization import MemorizedTexts, memorized_tokens, options_of, sentence_of
from forwardinf_core.benchmarks import memorization_texts as bench
from forwardinf_core.cli import main
from forwardinf_core.errors import AuditError, DataError
from forwardinf_core.influence.language import TokenLogOdds
from forwardinf_core.influence.language_curvature import fit_language_curvature
from forwardinf_core.influence.language_parts import matrices_of
from forwardinf_core.projects.language import open_language_project
from forwardinf_core.verification.retraining import Task
from tests.unit.language_cases import TEXTS, write_project

ODD = ("x", "", "Paris is the capital of Peru.", "<b>Rome</b> is \x00 a city.")
"""One token, none, a text against the others, markup with a NUL."""


def opened(folder: Path) -> TracingAudit:
    project = open_language_project(folder)
    return TracingAudit(project, project.load_model())


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> TracingAudit:
    """A model of six sentences, over 22 texts of which four are odd; it was not trained on the odd ones."""
    folder = write_project(tmp_path_factory.mktemp("memorized"))
    texts = [*TEXTS * 3, *ODD]
    pd.DataFrame({"id": [f"t{n}" for n in range(len(texts))], "text": texts}).to_parquet(folder / "train.parquet")
    return opened(folder)


@pytest.fixture(scope="module")
def found(audit: TracingAudit) -> MemorizedTexts:
    return memorization.run(audit)


def test_the_score_is_the_self_influence_of_the_text_by_token(audit: TracingAudit, found: MemorizedTexts) -> None:
    method, pieces = options_of().method, audit.place.pieces
    matrices = matrices_of(audit.model.module, method.scope)
    batches = [lambda: pieces.batch(range(len(pieces)))]
    objective = TokenLogOdds()
    curvature = fit_language_curvature(audit.model.module, objective, matrices, batches, "ekfac")
    position = 0
    own = pieces.of(np.array([position])).batch([0])
    expected = curvature.self_influences(audit.model.module, objective, own, damping=method.damping)
    assert found.score[position] * found.tokens[position] == pytest.approx(float(expected[0]), rel=1e-2)


def test_a_text_that_speaks_against_the_others_leans_on_itself_most(found: MemorizedTexts) -> None:
    peru = len(TEXTS) * 3 + ODD.index("Paris is the capital of Peru.")
    assert found.percentile[peru] > 80
    assert found.score[peru] > found.score[0]


def test_texts_without_a_predicted_token_score_nothing_and_say_so(found: MemorizedTexts) -> None:
    empty = len(TEXTS) * 3 + ODD.index("")
    assert found.score[empty] >= 0
    assert np.isfinite(found.score).all()
    nothing = replace(found, tokens=np.zeros_like(found.tokens))
    assert sentence_of(nothing, empty).startswith("Nothing in this text is predicted")
    assert sentence_of(found, 0).startswith("Estimate:")


def test_the_word_against_what_the_others_say_is_the_most_memorized_of_its_text(audit: TracingAudit) -> None:
    position = len(TEXTS) * 3 + ODD.index("Paris is the capital of Peru.")
    shares = memorized_tokens(audit, position)
    assert "".join(one.text for one in shares).strip() == "Paris is the capital of Peru."
    place, strongest = 0, max(shares, key=lambda one: one.score)
    for one in shares:
        if one is strongest:
            break
        place += len(one.text)
    assert place >= len("Paris is the capital of")


@pytest.mark.parametrize("text", ODD)
def test_tokens_of_odd_texts_come_back_letter_by_letter(audit: TracingAudit, text: str) -> None:
    shares = memorized_tokens(audit, len(TEXTS) * 3 + ODD.index(text))
    assert "".join(one.text for one in shares).strip() == text.strip()


def test_the_nearest_texts_leave_out_the_text_itself(audit: TracingAudit) -> None:
    near = memorization.nearest(audit, 0, 3)
    assert [position for position, _ in near][:2] == [len(TEXTS), 2 * len(TEXTS)]
    assert near[0][1] == pytest.approx(1.0, abs=1e-4)


def test_the_command_ranks_texts_and_writes_id_and_score(
    audit: TracingAudit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scores.parquet"
    assert main(["memorization", str(audit.folder), "--top", "2", "--scores", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [set(one) >= {"id", "score", "words", "sentence", "text"} for one in said["top"]] == [True, True]
    assert said["has_reference"] is False
    table = pd.read_parquet(out)
    assert list(table.columns) == ["id", "score"]
    assert list(table["id"]) == list(audit.ids)
    assert main(["memorization", str(audit.folder), "--top", "2"]) == 0
    assert "leans on it most" in capsys.readouterr().out


def test_what_cannot_be_scored_is_refused_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AuditError, match="needs a curvature"):
        options_of("all-sgd")
    few = opened(write_project(tmp_path / "few", epochs=1))
    with pytest.raises(DataError, match="too few to compare"):
        memorization.check_texts(few)
    folder = write_project(tmp_path / "same", epochs=1)
    pd.DataFrame({"id": [str(n) for n in range(30)], "text": ["the same"] * 30}).to_parquet(folder / "train.parquet")
    with pytest.raises(DataError, match="All training texts are the same"):
        memorization.check_texts(opened(folder))
    assert main(["memorization", str(folder), "--reference", "4"]) == 2
    assert "is not retrained here" in capsys.readouterr().err


def test_the_reference_of_texts_is_the_difference_of_means_with_and_without() -> None:
    tasks = [Task(np.asarray(rows), seed) for seed, rows in enumerate(([0, 1], [0, 2], [1, 2]))]
    chances = [np.array([0.9, 0.5, 0.5]), np.array([0.7, 0.5, 0.5]), np.array([0.2, 0.5, 0.5])]
    found = reference_of_chances(tasks, chances, 3)
    assert found.memorization[0] == pytest.approx(0.8 - 0.2)


def test_the_benchmark_measures_and_goes_on_from_what_it_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "TRAINING", replace(bench.TRAINING, epochs=1))
    corpus = bench.corpus_of("test", bench.demo_texts()[:60])
    first = bench.measure(corpus, tmp_path, models=4, report=lambda *_: None)
    assert {rank.score for rank in first.ranks} >= {"random", "loss a token"}
    monkeypatch.setattr(bench, "trained", lambda corpus, task: _only_full(corpus, task))
    torch.manual_seed(1)
    again = bench.measure(corpus, tmp_path, models=4, report=lambda *_: None)
    assert [rank.score for rank in again.ranks] == [rank.score for rank in first.ranks]


def _only_full(corpus: bench.Corpus, task: Task) -> torch.nn.Module:
    assert len(task.subset) == corpus.n_texts, "the halves are kept"
    return corpus.model.module
