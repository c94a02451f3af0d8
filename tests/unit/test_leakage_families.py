"""Copies of one picture are no crowd: a family of dozens is joined, and counts once where rows are to stand out."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.leakage import report
from forwardinf_core.audits.leakage.fusion import Fusion
from forwardinf_core.audits.leakage.groups import edges_within, families_in, families_of, hanging_together
from forwardinf_core.audits.leakage.medium import GREY
from forwardinf_core.audits.leakage.records import NONE
from forwardinf_core.audits.leakage.signals import CROWD, FAR, Nearest, Spaces, fit_spaces, likeness, placed
from forwardinf_core.audits.leakage.traces import Traces

OTHERS, FAMILY = 300, 30
STANDS_OUT = Fusion((0.0, 1.0), slope=20.0, intercept=-10.0)  # sure from half a cosine above the crowd


def rows(*, copies: int, seed: int = 0) -> Traces:
    """Return directions drawn at random, and after them altered copies of one more."""
    generator = torch.Generator().manual_seed(seed)
    others, one = torch.randn(OTHERS, 64, generator=generator), torch.randn(1, 64, generator=generator)
    family = one + 0.3 * torch.randn(copies, 64, generator=generator)
    values = torch.cat([others, family])
    return Traces({GREY: values, "outputs": torch.zeros(len(values), 1)})


def compared_with(traces: Traces) -> Spaces:
    return placed(fit_spaces(traces), traces)


def joined(traces: Traces, far: Tensor | None = None) -> np.ndarray:
    return edges_within(compared_with(traces), STANDS_OUT, 0.5, traces, lambda *_: None, "", far)


def test_the_tenth_family_is_found_as_by_counting_one_by_one() -> None:
    generator = torch.Generator().manual_seed(1)
    values = torch.rand(5, 2, 40, generator=generator).sort(dim=2, descending=True).values
    near = Nearest(values, torch.randint(0, 60, (5, 2, 40), generator=generator))
    families = torch.randint(0, 20, (60,), generator=generator)
    found = near.crowd(families)
    for query, signal in np.ndindex(5, 2):
        met: set[int] = set()
        place = -1
        while len(met) < CROWD:
            place += 1
            met.add(int(families[near.rows[query, signal, place]]))
        assert found[query, signal] == values[query, signal, place]


def test_rows_without_copies_are_each_a_family_of_their_own() -> None:
    found = likeness(compared_with(rows(copies=0)), rows(copies=0, seed=2), None).nearest
    assert torch.equal(found.crowd(torch.arange(OTHERS)), found.crowd())


def test_where_there_are_fewer_families_the_last_row_kept_is_the_crowd() -> None:
    near = Nearest(torch.linspace(1, 0, 30).reshape(1, 1, 30), torch.arange(30).reshape(1, 1, 30))
    assert torch.equal(near.crowd(torch.zeros(30, dtype=torch.int64)), near.far())


def test_a_family_of_dozens_is_one_group_and_nothing_else_is() -> None:
    ((members, _),) = hanging_together(joined(rows(copies=FAMILY)), OTHERS + FAMILY)
    assert members.tolist() == list(range(OTHERS, OTHERS + FAMILY))


def test_it_would_not_stand_out_from_the_tenth_nearest_row() -> None:
    traces = rows(copies=FAMILY)
    tenth = likeness(compared_with(traces), traces, None).nearest.crowd()
    assert not len(joined(traces, tenth))


def test_a_copy_of_a_family_stands_out_once_the_family_is_known() -> None:
    train = rows(copies=FAMILY)
    query = Traces({name: value[-1:] + 0.01 for name, value in train.parts.items()})
    families = families_of(joined(train), OTHERS + FAMILY)
    near = likeness(compared_with(train), query, None).nearest
    assert near.values[0, 0, 0] - near.crowd()[0, 0] < 0.3
    assert near.values[0, 0, 0] - near.crowd(families)[0, 0] > 0.5


def test_a_row_is_no_neighbour_of_its_own_among_few_rows() -> None:
    few = rows(copies=0).rows(0, FAR // 2)
    near = likeness(compared_with(few), few, None, excluded=torch.arange(len(few))).nearest
    assert near.rows.shape[2] == len(few) - 1
    assert not (near.rows[:, 0] == torch.arange(len(few)).unsqueeze(1)).any()


def test_families_are_read_back_from_the_groups_of_a_run() -> None:
    groups = pd.DataFrame([(0, "train", 1), (0, "train", 3), (0, "test", 2)], columns=["group", "split", "position"])
    families = families_in(groups, 5).tolist()
    assert families[1] == families[3]
    assert len(set(families)) == 4


def test_an_upload_is_as_sure_as_the_same_test_row(digits_audit: Audit) -> None:
    found = report.run(digits_audit)
    pair = max((one for one in found.pairs if one.verdict == NONE), key=lambda one: one.score)
    buffer = io.BytesIO()
    digits_audit.test.image(digits_audit.test.position(pair.query.removeprefix("test:"))).save(buffer, "PNG")
    (again,) = report.pairs_of(digits_audit, found, [digits_audit.add_upload(buffer.getvalue(), "row.png")])
    assert again.train == pair.train
    assert again.score == pytest.approx(pair.score, abs=1e-3)
