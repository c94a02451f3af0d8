"""The sets on which the search for wrong labels is measured: what is wrong in them, and what nobody knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from forwardinf_core.benchmarks.mislabels_sets import flipped, make_problem
from forwardinf_core.errors import DataError
from forwardinf_core.projects.load import open_project


def test_of_reviewed_texts_only_those_that_a_crowd_agreed_on_are_known(real_data: Path, tmp_path: Path) -> None:
    found = make_problem("imdb-reviewed", real_data, tmp_path)
    assert (found.is_text, int(found.known.sum()), int(found.wrong.sum())) == (True, 508, 108)
    assert not found.wrong[~found.known].any()
    project = open_project(found.folder)
    assert len(project.train_rows(None)) == len(found.wrong)


@pytest.mark.parametrize("name", ["trec-uniform", "trec-by-class", "cifar10n-label_aggre"])
def test_a_set_is_made_once_and_read_back(real_data: Path, tmp_path: Path, name: str) -> None:
    found = make_problem(name, real_data, tmp_path)
    written = (found.folder / "train.parquet").stat().st_mtime_ns
    again = make_problem(name, real_data, tmp_path)
    assert (found.folder / "train.parquet").stat().st_mtime_ns == written
    np.testing.assert_array_equal(found.wrong, again.wrong)
    assert found.known.all()
    assert 0.08 < found.wrong.mean() < 0.11
    table = pd.read_parquet(found.folder / "train.parquet")
    assert ((table["label"] != table["truth"]).to_numpy() == found.wrong).all()


def test_flips_go_where_they_should() -> None:
    labels = np.arange(1_000) % 5
    to_next, anywhere = flipped(labels, "by-class", 5), flipped(labels, "uniform", 5)
    assert (to_next != labels).sum() == (anywhere != labels).sum() == 100
    assert set((to_next - labels)[to_next != labels] % 5) == {1}
    assert set((anywhere - labels)[anywhere != labels] % 5) == {1, 2, 3, 4}


def test_a_set_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no set 'none'"):
        make_problem("none", tmp_path, tmp_path)
