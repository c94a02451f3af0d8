"""What all tests share: where the real data is, and skips that are failures in continuous integration."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
REAL_DATA = Path(os.environ.get("FORWARDINF_TEST_DATA", ROOT.parent / "shared" / "data"))
IN_CI = os.environ.get("CI") == "true"


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
