"""``verify PROJECT lds``: the agreed keys, failures named, and retrainings that go on where they were stopped."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.context import AtOnce
from forwardinf_core.audits.opening import load_audit
from forwardinf_core.cli import main
from forwardinf_core.errors import CancelledError, ModelError
from forwardinf_core.jobs import context
from forwardinf_core.models.training import TrainingOptions
from forwardinf_core.verification import fidelity, method_scores, recipes
from forwardinf_core.verification.fidelity import LdsOptions, drawn_queries, lds_now, truth_by_retraining
from forwardinf_core.verification.image_recipe import ImageRecipe
from forwardinf_core.verification.lds import linear_datamodelling_score
from forwardinf_core.verification.method_scores import BASELINES, scores_of
from forwardinf_core.verification.recipes import retraining_of

OPTIONS = LdsOptions("head", subsets=10, seeds=1, queries=6)


@pytest.fixture(autouse=True)
def short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train for one epoch, in this process."""
    monkeypatch.setattr(recipes, "load_training", lambda *_: TrainingOptions(epochs=1))
    monkeypatch.setattr(fidelity, "available_threads", lambda: 1)


def test_lds_prints_the_agreed_keys_and_the_baselines_beside_the_method(
    digits_audit: Audit, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--method", "head", "--subsets", "10", "--seeds", "1", "--queries", "6", "--json")
    assert main(("verify", "demo:digits", "lds", *arguments)) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"lds", "low", "high", "ceiling", "methods", "failed", "left_out"} <= found.keys()
    assert set(found["methods"]) == {"head", *BASELINES}
    assert found["ceiling"] is None
    assert found["low"] <= found["lds"] <= found["high"]
    stored = lds_now(digits_audit, OPTIONS)
    assert stored.run_id == found["run_id"]
    assert len(stored.points) == 10 * 6
    assert fidelity.latest_lds(digits_audit) is not None


def test_a_cancelled_ladder_keeps_its_networks_and_goes_on(
    digits_audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "REPORT_EVERY_S", 0.0)  # however fast networks are trained, every report is heard
    options = replace(OPTIONS, seeds=2)

    def stop(_fraction: float, note: str) -> None:
        if note.startswith("13 of"):
            raise CancelledError(note)

    with pytest.raises(CancelledError):
        lds_now(digits_audit, options, stop)
    trained: list[int] = []
    outputs = ImageRecipe.outputs
    monkeypatch.setattr(ImageRecipe, "outputs", lambda self, *given: (trained.append(1), outputs(self, *given))[1])
    found = lds_now(digits_audit, options)
    assert len(trained) == 7
    assert not np.isnan(found.ceiling)


def test_a_training_that_failed_is_named_and_left_out(digits_audit: Audit) -> None:
    retraining = retraining_of(digits_audit)
    queries = len(digits_audit.train_ids) + drawn_queries(digits_audit, 4)
    rows = np.arange(len(digits_audit.train_ids))
    truth, failed = truth_by_retraining(retraining, rows, queries, subsets=11, seeds=1)
    assert failed == ()
    assert truth.outcomes.shape == (1, 11, 4)
    first = fidelity.half_subsets(len(rows), 1, fidelity.SUBSET_SEED)[0]
    key = fidelity.Task(first, 0).key
    kept = retraining.store.get(key)
    assert kept is not None
    retraining.store.put(key, {"outputs": torch.full_like(kept["outputs"], torch.nan)})
    truth, failed = truth_by_retraining(retraining, rows, queries, subsets=11, seeds=1)
    retraining.store.put(key, kept)
    assert failed == ("half 1, seed 0",)
    assert truth.failed == (0,)


def test_a_query_whose_step_is_refused_is_left_out_and_the_others_stay(
    digits_audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = drawn_queries(digits_audit, 3)
    expected = scores_of(digits_audit, ["head"], queries, AtOnce())["head"]
    refused = digits_audit.queries.batch(f"test:{digits_audit.test_ids[queries[1]]}", 0)["x"]
    score_group = method_scores.score_group

    def sometimes(place, method, batches):
        if any(torch.equal(batch["x"], refused) for batch in batches):
            raise ModelError("The gradient of the query is exactly zero.")
        return score_group(place, method, batches)

    monkeypatch.setattr(method_scores, "score_group", sometimes)
    found = scores_of(digits_audit, ["head"], queries, AtOnce())["head"]
    assert not found[1].any()
    np.testing.assert_allclose(found[[0, 2]], expected[[0, 2]], rtol=1e-4, atol=1e-8)
    rows = np.arange(len(digits_audit.train_ids))
    watched = len(rows) + queries
    truth, _ = truth_by_retraining(retraining_of(digits_audit), rows, watched, subsets=10, seeds=1)
    assert linear_datamodelling_score(found, truth, resamples=0).left_out == (1,)


def test_too_few_rows_get_one_sentence(digits_audit: Audit, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "small"
    shutil.copytree(digits_audit.folder, folder, ignore=shutil.ignore_patterns(".audit", "demo.json"))
    pd.read_parquet(folder / "train.parquet").head(60).to_parquet(folder / "train.parquet")
    assert load_audit(folder).train.ids
    assert main(("verify", str(folder), "lds", "--json")) == 2
    said = capsys.readouterr().err
    assert "60 labelled training rows say too little" in said
    assert len(said.strip().splitlines()) == 1
