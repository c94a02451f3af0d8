"""What all tests share: where the real data is, and skips that are failures in continuous integration."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from forwardinf_core.audits.audit import Audit

ROOT = Path(__file__).resolve().parents[1]
REAL_DATA = Path(os.environ.get("FORWARDINF_TEST_DATA", ROOT.parent / "shared" / "data"))
IN_CI = os.environ.get("CI") == "true"

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)  # as many as there are workers would stand in each other's way


def absent(reason: str) -> None:
    """Skip with a reason; in continuous integration, where everything is present, fail instead."""
    if IN_CI:
        pytest.fail(f"must not be skipped in CI: {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real data sets (its README names them)."""
    if not REAL_DATA.is_dir():
        absent(f"no real data at {REAL_DATA}; set FORWARDINF_TEST_DATA")
    return REAL_DATA


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    """Give every test the same random start."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def digits_audit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Audit]:
    """Return the digits demo, built once for all tests in a home of its own, with the head ready."""
    from forwardinf_core.audits.opening import open_audit

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORWARDINF_HOME", str(tmp_path_factory.mktemp("home")))
        yield open_audit("demo:digits")


@pytest.fixture(scope="session")
def text_audit(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    """Return a small text project with its baseline trained, once for all tests, with the head ready."""
    from forwardinf_core.audits.fitting import FitOptions
    from forwardinf_core.audits.opening import open_audit
    from forwardinf_core.jobs import run as jobs
    from tests.unit.text_cases import write_project

    folder = write_project(tmp_path_factory.mktemp("texts"))
    found = jobs.run_here("fit", folder, FitOptions(epochs=40, width=16), lambda *_: None)
    assert found["test_accuracy"] > 0.9  # type: ignore[operator]
    return open_audit(folder)
