"""Memory that runs out in the middle of an audit: smaller batches, the same answer, and still an exact control."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.methods import method_named
from forwardinf_core.audits.opening import load_audit
from forwardinf_core.audits.preparation import PrepareOptions
from forwardinf_core.influence.graph import GraphNetwork
from forwardinf_core.influence.network import FullNetwork, Parameters
from forwardinf_core.influence.objective import Batch
from forwardinf_core.jobs import run as jobs

MOST_ROWS = 70  # of a batch that fits; 200 and 100 do not, 50 do
RTOL, ATOL = 1e-3, 1e-6  # outputs differ in their last bits between batch sizes; scores are about 1e-2


def limit_memory(monkeypatch: pytest.MonkeyPatch, network: type[FullNetwork | GraphNetwork]) -> list[int]:
    """Let a network run out of memory on large batches; return the sizes it ran on."""
    ran: list[int] = []
    outputs: Callable[[object, Parameters, Batch], Tensor] = network.outputs

    def limited(self: object, parameters: Parameters, batch: Batch) -> Tensor:
        rows = len(next(iter(batch.values())))
        if rows > MOST_ROWS:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")
        ran.append(rows)
        return outputs(self, parameters, batch)

    monkeypatch.setattr(network, "outputs", limited)
    return ran


@pytest.fixture
def fresh_audit(digits_audit: Audit, tmp_path: Path) -> Audit:
    """Return the digits in a folder without caches."""
    folder = tmp_path / "project"
    shutil.copytree(digits_audit.folder, folder, ignore=shutil.ignore_patterns(".audit", "demo.json"))
    return load_audit(folder)


def test_scoring_goes_on_in_smaller_batches_with_the_unchanged_model_still_at_zero(
    fresh_audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = f"test:{fresh_audit.test_ids[0]}"
    expected = fresh_audit.attribute(query, method=method_named("full-sgd"))  # makes the cache in whole batches
    ran = limit_memory(monkeypatch, FullNetwork)
    found = fresh_audit.attribute(query, method=method_named("full-sgd", seed=1))  # the seed plays no part
    assert max(ran) == 50
    assert found.unchanged_max_abs_score == 0
    np.testing.assert_allclose(found.scores.score, expected.scores.score, rtol=RTOL, atol=ATOL)


def test_a_cache_made_in_smaller_batches_keeps_the_control_at_zero_in_larger_ones(
    fresh_audit: Audit, digits_audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = f"test:{fresh_audit.test_ids[1]}"
    with monkeypatch.context() as patch:
        limit_memory(patch, FullNetwork)
        jobs.run_here("prepare", fresh_audit.folder, PrepareOptions(("full",)), lambda *_: None)
    found = fresh_audit.attribute(query, method="full-sgd")
    assert found.unchanged_max_abs_score == 0
    expected = digits_audit.attribute(query, method="full-sgd")
    np.testing.assert_allclose(found.scores.score, expected.scores.score, rtol=RTOL, atol=ATOL)


def test_a_curvature_fit_that_runs_out_of_memory_gives_the_same_scores(
    fresh_audit: Audit, digits_audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = f"test:{fresh_audit.test_ids[2]}"
    limit_memory(monkeypatch, GraphNetwork)
    found = fresh_audit.attribute(query, method="tail-diagonal")
    monkeypatch.undo()
    assert found.unchanged_max_abs_score == 0
    expected = digits_audit.attribute(query, method="tail-diagonal")
    np.testing.assert_allclose(found.scores.score, expected.scores.score, rtol=RTOL, atol=ATOL)
