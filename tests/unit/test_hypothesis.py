"""``verify PROJECT hypothesis`` on a small project: agreed keys, a run that is read back, work that goes on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from forwardinf_core.audits.audit import Audit
from forwardinf_core.cli import main
from forwardinf_core.errors import CancelledError
from forwardinf_core.jobs import context
from forwardinf_core.projects.load import Project
from forwardinf_core.verification import convex, hypothesis_parts
from forwardinf_core.verification.groups import repeatability
from forwardinf_core.verification.hypothesis import find_hypothesis, hypothesis_now, latest_hypothesis
from forwardinf_core.verification.hypothesis_records import HypothesisOptions
from forwardinf_core.verification.paper_network import PaperNetwork, PaperRecipe
from forwardinf_core.verification.retraining import Examples, Task

SMALL = HypothesisOptions(rows=150, each=2)
NETWORK = HypothesisOptions("network", rows=80, share=0.3, seeds=1, epochs=1)


@pytest.fixture
def project(digits_audit: Audit) -> Project:
    return digits_audit.project


def test_the_convex_part_prints_the_agreed_keys(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("verify", "demo:digits", "hypothesis", "--rows", "150", "--each", "2", "--json")
    assert main(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"pearson", "spearman", "n_rows", "n_queries", "low", "high", "estimates"} <= found.keys()
    assert (found["n_rows"], found["n_queries"]) == (150, 2)  # as in the paper: the queries of highest loss
    assert 0.5 < found["pearson"] <= 1
    assert set(found["by_kind"]) == {"highest loss", "random"}
    stored = find_hypothesis(project, SMALL)
    assert stored is not None
    assert stored.run_id == found["run_id"]
    assert len(stored.points) == 150 * 4
    assert set(stored.points["id"]) <= set(project.train_rows(None).ids)
    assert latest_hypothesis(project, "convex") is not None


def test_a_cancelled_verification_goes_on_with_the_rows_that_are_left(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convex, "AT_ONCE", 20)
    monkeypatch.setattr(context, "REPORT_EVERY_S", 0.0)  # however fast the rows go by, every report is heard
    options = HypothesisOptions(rows=60, each=1, seed=3)
    notes: list[str] = []

    def stop(_fraction: float, note: str) -> None:
        notes.append(note)
        if note.startswith("40 of"):
            raise CancelledError(note)

    with pytest.raises(CancelledError):
        hypothesis_now(project, options, stop)
    done: list[tuple[int, int]] = []
    refit = convex.LogisticRows.refit
    monkeypatch.setattr(
        convex.LogisticRows, "refit", lambda self, weights: (done.append(tuple(weights.shape)), refit(self, weights))[1]
    )
    hypothesis_now(project, options)
    assert len(done) == 2  # the last twenty rows, and the mirrored fits


def test_the_network_part_correlates_groups_and_keeps_its_networks(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = hypothesis_now(project, NETWORK)
    assert len(found.points) == 30
    assert found.points["wrong_share"].is_monotonic_increasing
    assert {"tail", "tail-sgd", "influence-fisher", "loss", "random"} <= found.estimates.keys()
    assert np.isfinite(found.pearson)
    assert found.failed == ()
    monkeypatch.setattr(PaperRecipe, "outputs", lambda *_: pytest.fail("trained again"))
    monkeypatch.setattr(hypothesis_parts, "_group_estimates", lambda *_: {})
    again = hypothesis_now(project, HypothesisOptions("network", rows=80, share=0.3, seeds=1, epochs=1, each=11))
    assert again.pearson == found.pearson


def test_the_papers_network_fits_images_of_every_size_and_learns() -> None:
    for size, channels in ((8, 1), (28, 1), (32, 3)):
        module = PaperNetwork(10, channels, size)
        assert module(torch.zeros(2, channels, size, size)).shape == (2, 10)
    labels = torch.arange(60) % 2
    pixels = torch.zeros(60, 1, 8, 8, dtype=torch.uint8)
    pixels[labels == 1, :, :4] = 255
    recipe = PaperRecipe(Examples(pixels, labels), 2, epochs=20)
    task = Task(np.arange(50), 0)
    outputs = recipe.outputs(task, Examples(pixels[50:], labels[50:]))
    assert torch.equal(outputs.argmax(1), labels[50:])
    assert torch.equal(outputs, recipe.outputs(task, Examples(pixels[50:], labels[50:])))


def test_a_project_without_enough_rows_gets_one_sentence(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(("verify", "demo:digits", "hypothesis", "--part", "network", "--rows", "25", "--share", "0.2")) == 2
    said = capsys.readouterr().err
    assert "too few for groups" in said
    assert len(said.strip().splitlines()) == 1


def test_a_project_that_is_not_there_gets_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(("verify", str(tmp_path / "nothing"), "hypothesis")) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_repeatability_is_the_correlation_of_means_over_other_seeds() -> None:
    random = np.random.default_rng(0)
    truth, noise = random.normal(size=2_000), 2.0 * random.normal(size=(10, 2_000))
    measured = truth + noise
    wanted = np.corrcoef(measured[:5].mean(0), measured[5:].mean(0))[0, 1]
    assert repeatability(measured[:5]) == pytest.approx(wanted, abs=0.05)
    assert repeatability(np.stack([truth, 2 * truth + 1])) == pytest.approx(1)
    measured[0, 3] = np.nan
    assert np.isnan(repeatability(measured[:2]))
