"""The memory that ``bench memory`` tells is the answering process's own, whatever the size of who started it."""

from __future__ import annotations

import numpy as np

from forwardinf_core.benchmarks.memory import peak_of

MIB = 2**20


def test_a_large_parent_is_not_counted() -> None:
    ballast = np.ones(2_000 * MIB, np.uint8)
    found = peak_of(200, "head")
    assert 100 < found.own_mib < found.mib < ballast.nbytes / MIB


def test_tracing_of_pictures_is_measured_too() -> None:
    found = peak_of(20, "sgd", paints=True)
    assert 100 < found.own_mib < found.mib
