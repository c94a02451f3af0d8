"""Rows are compared in spaces that are fitted once, and other copies of a listed row do not count against it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.context import AtOnce
from forwardinf_core.audits.leakage import fitted
from forwardinf_core.audits.leakage.medium import GREY, PATCHES
from forwardinf_core.audits.leakage.signals import fit_spaces, likeness, placed
from forwardinf_core.audits.leakage.traces import Traces, described
from forwardinf_core.benchmarks.leakage import UNGROUPED, listed_pairs, other_copies, with_judged, without
from forwardinf_core.errors import DataError

RTOL = 1e-3  # float32 products against double precision


def patterns(rows: int, numbers: int = 12) -> Traces:
    generator = torch.Generator().manual_seed(0)
    shared = 20 * torch.randn(rows, 1, generator=generator) * torch.ones(numbers)
    own = torch.randn(rows, numbers, generator=generator) + shared
    return Traces({GREY: own, PATCHES: own, "outputs": torch.zeros(rows, 1)})


def test_patches_are_compared_by_the_whitened_cosine_of_the_plain_formula() -> None:
    train = patterns(200)
    spaces = placed(fit_spaces(train), train)
    rows = train.parts[PATCHES].double()
    centred = rows - rows.mean(0)
    variances, directions = torch.linalg.eigh(centred.T @ centred / len(rows))
    white = centred @ directions / (variances + 1e-3 * variances[-1]).sqrt()
    unit = white / white.norm(dim=1, keepdim=True)
    found = likeness(spaces, train.rows(0, 7), None).values[spaces.names.index(PATCHES)]
    assert_close(found.double(), unit[:7] @ unit.T, rtol=RTOL, atol=1e-3)


def test_what_all_rows_share_does_not_hide_a_copy() -> None:
    train = patterns(200)
    noise = torch.randn(50, 12, generator=torch.Generator().manual_seed(1))
    brighter = train.parts[PATCHES][:50] + 5 + 0.1 * noise
    query = Traces({GREY: brighter, PATCHES: brighter, "outputs": torch.zeros(50, 1)})
    found = likeness(placed(fit_spaces(train), train), query, None).values
    right = (found.argmax(2) == torch.arange(50)).float().mean(1)
    assert right[1] > 0.9
    assert right[1] > right[0]  # the plain vectors, by how bright they are


def test_kept_spaces_are_those_that_were_fitted(digits_audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    place = digits_audit.workplace(AtOnce())
    train = described(place, digits_audit.train)
    first = fitted.spaces_of(place, train)
    monkeypatch.setattr(fitted, "fit_spaces", lambda _train: (_ for _ in ()).throw(AssertionError))
    again = fitted.spaces_of(place, train)
    assert first.names == again.names == tuple(fit_spaces(train))
    for name in first.names:
        assert torch.equal(first.train[name], again.train[name])


def test_other_copies_of_a_listed_row_are_left_out_of_its_ranking_alone() -> None:
    groups = pd.DataFrame(
        [(0, "train", 1), (0, "train", 3), (0, "test", 2), (1, "train", 0)], columns=["group", "split", "position"]
    )
    others = other_copies(groups)
    assert {own: rows.tolist() for own, rows in others.items()} == {1: [3], 3: [1], 0: []}
    scores = torch.arange(8.0).reshape(2, 4)
    left = without(scores, np.asarray([1, 2]), others)
    assert left[0].tolist() == [0, 1, 2, -torch.inf]
    assert torch.equal(left[1], scores[1])


def test_another_row_that_was_judged_true_counts_for_its_own_test_row_alone() -> None:
    ranks = {"fused": np.asarray([4, 1, 7]), UNGROUPED: np.asarray([1, 1, 7])}
    more = {"fused": np.asarray([2, 1, 3]), UNGROUPED: np.asarray([2, 1, 3])}
    found = with_judged(ranks, np.asarray([10, 11, 12]), more, np.asarray([10, 10, 99]))
    assert {name: values.tolist() for name, values in found.items()} == {"fused": [1, 1, 7]}
    assert ranks["fused"].tolist() == [4, 1, 7]


def test_of_judged_pairs_the_same_shots_alone_are_read(digits_audit: Audit, tmp_path: Path) -> None:
    tests, trains = digits_audit.test_ids, digits_audit.train_ids
    judged = tmp_path / "judged.csv"
    rows = [(tests[0], trains[5], 1), (tests[1], trains[6], 2), (tests[2], trains[7], 0)]
    pd.DataFrame(rows, columns=["test_id", "train_id", "judgment"]).to_csv(judged, index=False)
    assert [found.tolist() for found in listed_pairs(digits_audit, judged, same_shot=True)] == [[0], [5]]
    assert [found.tolist() for found in listed_pairs(digits_audit, judged)] == [[0, 1, 2], [5, 6, 7]]
    pd.DataFrame(rows, columns=["test_id", "train_id", "sure"]).to_csv(judged, index=False)
    with pytest.raises(DataError, match="no column judgment"):
        listed_pairs(digits_audit, judged, same_shot=True)
