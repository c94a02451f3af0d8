"""``bench compare``: contenders agree where they must, failures are named, the document says who is ahead."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load
from torch import Tensor

from forwardinf_core.audits.audit import Audit
from forwardinf_core.benchmarks.compare import measure, run
from forwardinf_core.benchmarks.compare.contenders import BASELINES, OURS, HeadStep, OnHead
from forwardinf_core.benchmarks.compare.document import (
    Comparison,
    Line,
    copies_found,
    markdown,
    quicker,
    standing,
    wrong_labels,
)
from forwardinf_core.benchmarks.compare.measure import Failed, Measured, measure_all, slug
from forwardinf_core.benchmarks.compare.run import compare_project, write_document
from forwardinf_core.benchmarks.compare.scene import Scene, Truth, make_scene
from forwardinf_core.models.training import TrainingOptions
from forwardinf_core.store.binding import Binding
from forwardinf_core.store.chunks import ChunkStore
from forwardinf_core.verification import recipes
from forwardinf_core.verification.lds import spearman


@pytest.fixture(autouse=True)
def short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "load_training", lambda *_: TrainingOptions(epochs=3))


@pytest.fixture
def made(digits_audit: Audit) -> tuple[Scene, Truth]:
    scene, truth, _, _ = make_scene(digits_audit, models=1, queries=6)
    return scene, truth


def test_the_scene_holds_queries_copies_and_wrong_labels(digits_audit: Audit, made: tuple[Scene, Truth]) -> None:
    scene, truth = made
    assert truth.fidelity_queries == 6
    assert len(truth.copies) == 12
    assert truth.wrong is not None
    assert truth.wrong.sum() == 65
    for query, row in truth.copies:
        torch.testing.assert_close(scene.queries[query], scene.rows[row])
    assert len(scene.checkpoints[0]) == 3
    assert not torch.equal(scene.checkpoints[0][0]["head.weight"], scene.checkpoints[0][2]["head.weight"])


def test_every_contender_of_ours_scores_every_row_for_every_query(made: tuple[Scene, Truth]) -> None:
    scene = made[0].asking(0, 3)
    for make in (OURS | BASELINES).values():
        contender = make()
        contender.prepare(scene, 0)
        scores = contender.scores(scene.queries, scene.query_labels)
        assert scores.shape == (3, len(scene.labels))
        assert scores.isfinite().all()


def test_the_step_on_the_head_ranks_as_the_closed_form(made: tuple[Scene, Truth]) -> None:
    scene, truth = made
    step, closed = HeadStep(), OnHead("influence-fisher")
    for contender in (step, closed):
        contender.prepare(scene, 0)
    asked = scene.asking(0, 4)
    a, b = (one.scores(asked.queries, asked.query_labels).double().numpy() for one in (step, closed))
    assert spearman(a.T, b.T).min() > 0.95
    assert truth.wrong is not None
    assert wrong_labels(step.own_influence().numpy(), truth.wrong)[0] > 0.9


class Broken:
    def prepare(self, scene: Scene, model: int) -> None:
        raise ValueError("no such thing\nsecond line")


def test_what_is_measured_is_kept_and_what_fails_is_named(
    made: tuple[Scene, Truth], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = made[0].asking(0, 3)

    def here(scene: Scene, name: str, threads: int, limit_s: float) -> dict[str, Tensor] | Failed:
        sent: list[object] = []

        class Link:
            send = staticmethod(sent.append)

        measure._measure(Link(), pickle.dumps(scene), name, threads)  # type: ignore[arg-type]
        return Failed(name, sent[0]) if isinstance(sent[0], str) else load(sent[0])  # type: ignore[arg-type]

    monkeypatch.setattr(measure, "_in_own_process", here)
    monkeypatch.setattr(measure, "CONTENDERS", {"loss": BASELINES["loss"], "broken": Broken})
    store = ChunkStore(tmp_path, Binding("test"))
    threads = torch.get_num_threads()
    first, failed = measure_all(scene, ["loss", "broken"], store, threads=threads, limit_s=60)
    assert isinstance(first, Measured)
    assert first.first > 0
    assert first.scores.shape == (1, 3, len(scene.labels))
    assert failed == Failed("broken", "ValueError: no such thing")
    monkeypatch.setattr(measure, "_in_own_process", lambda *_: pytest.fail("measured again"))
    assert measure_all(scene, ["loss"], store, threads=threads, limit_s=60)[0].scores.equal(first.scores)


def test_a_copy_that_scores_highest_is_found() -> None:
    scores = np.zeros((2, 8))
    scores[0, 3], scores[1, :6], scores[1, 7] = 1.0, 2.0, 3.0
    assert copies_found(scores, [(0, 3), (1, 7)]) == (1.0, 1.0)
    assert copies_found(scores, [(0, 3), (1, 6)]) == (0.5, 0.5)


def line(name: str, lds: float) -> Line:
    nan = (float("nan"), float("nan"))
    return Line(name, (lds, lds - 0.1, lds + 0.1), (lds, lds, lds), 1.0, 0.1, 5.0, 500.0, nan, nan)


def comparison(*lines: Line) -> Comparison:
    return Comparison("p", "command", 10, 5, 1, 0, 0, 1, 0.1, float("nan"), lines, (Failed("x", "why"),), {})


def test_the_document_says_where_a_library_is_ahead_and_keeps_other_projects(tmp_path: Path) -> None:
    found = comparison(line("tail", 0.2), line("kronfluence EK-FAC", 0.3))
    assert "is NOT ahead of the best library, kronfluence EK-FAC (0.300)" in standing(found)
    assert "is ahead of" in standing(comparison(line("tail", 0.4), line("kronfluence EK-FAC", 0.3)))
    assert any("x is missing: why" in text for text in markdown(found))
    path = tmp_path / "comparison.md"
    write_document(found, path)
    write_document(replace(found, project="q"), path)
    write_document(found, path)
    said = path.read_text()
    assert said.count("\n## p\n") == said.count("\n## q\n") == 1
    assert set(json.loads(path.with_suffix(".json").read_text())) == {"p", "q"}


def test_names_become_names_of_chunks() -> None:
    assert slug("captum TracInCPFast, 1 checkpoint") == "captum-tracincpfast-1-checkpoint"


def test_a_project_is_compared_from_end_to_end(digits_audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_own_audits", lambda *_: {})
    monkeypatch.setattr(recipes, "load_training", lambda *_: TrainingOptions(epochs=1))
    names = ["loss"]
    found = compare_project(digits_audit, command="c", names=names, models=1, subsets=10, queries=4)
    assert {one.name for one in found.lines} == set(names)
    assert found.n_models == 1
    assert found.n_copies == 12
    assert not found.failed
    assert all(one.peak_mib > 100 and one.first > 0 for one in found.lines)


def test_the_document_says_in_which_times_a_library_is_ahead() -> None:
    ours, theirs = replace(line("tail", 0.4), together=35.0), replace(line("kronfluence EK-FAC", 0.3), together=11.0)
    (said,) = quicker(comparison(ours, theirs))
    assert said == "For 100 queries our default takes 35 passes. Libraries that take fewer: kronfluence EK-FAC (11)."
    assert not list(quicker(comparison(ours)))
