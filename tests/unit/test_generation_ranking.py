"""What a trace supports: rankings of all or of a shortlist, sums of groups, noise levels; and pictures found again."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from forwardinf_core.audits.generation import facts
from forwardinf_core.audits.generation.opening import open_generation_audit
from forwardinf_core.audits.generation.painting import Wish, check, paint, painted, wishes
from forwardinf_core.audits.generation.ranking import groups_of, profile_of, ranking_of
from forwardinf_core.audits.generation.records import Generation, Picture
from forwardinf_core.audits.generation.tracing import GenerationAudit
from forwardinf_core.errors import DataError
from forwardinf_core.influence.scores import ScoreTable
from tests.pages.small_painter import make_painter

NAN = float("nan")


def trace_of(score: list[float], full: list[float] | None = None) -> Generation:
    scored = np.array(score if full is None else full, np.float32)
    weights = np.array([3.0, 0.5, 0.0, -0.5], np.float32)  # the mean is 0.75
    return Generation(
        run_id="generation-0000000000000000",
        picture=Picture("image:" + "0" * 32, None, {}),
        options={},
        scores=ScoreTable(
            np.array(score, np.float32),
            np.ones(len(score), np.float32),
            "full",
            None if full is None else np.array(full, np.float32),
        ),
        by_draw=scored[:, None] * weights,
        timesteps=np.tile(np.array([10.0, 300.0, 600.0, 900.0], np.float32), (len(score), 1)),
        pixel=np.zeros(len(score), np.float32),
        feature=np.zeros(len(score), np.float32),
        loss_before=1.0,
        loss_after=2.0,
        unchanged_max_abs_score=0.0,
        seconds=1.0,
    )


def test_without_a_shortlist_every_row_has_its_place() -> None:
    ranking = ranking_of(trace_of([0.1, -0.2, 0.3]))
    assert ranking.is_whole
    assert ranking.top(2).tolist() == [2, 0]
    assert ranking.bottom(2).tolist() == [1]
    assert ranking.place(2) == 2


def test_a_shortlist_ranks_its_own_rows_alone_and_never_by_likeness() -> None:
    ranking = ranking_of(trace_of([0.9, 0.8, 0.1, 0.7], [NAN, -0.5, 0.2, 0.4]))
    assert not ranking.is_whole
    assert ranking.top(3).tolist() == [3, 2]
    assert ranking.bottom(3).tolist() == [1]
    assert ranking.place(0) is None
    place = ranking.place(3)
    assert place is not None
    assert ranking.scores.percentile[place] == 100


def test_groups_add_up_and_count_what_was_scored() -> None:
    ranking = ranking_of(trace_of([0.9, 0.8, 0.1, 0.7], [NAN, -0.5, 0.25, 0.5]))
    found = {group.name: group for group in groups_of(ranking, ["a", "a", "b", "a"])}
    assert [group.name for group in groups_of(ranking, ["a", "a", "b", "a"])] == ["b", "a"]
    assert (found["a"].score, found["a"].n_rows, found["a"].n_scored, found["a"].n_helped) == (0.0, 3, 2, 1)
    assert found["b"].score == 0.25


def test_a_noise_profile_holds_the_rows_own_changes_and_says_where_they_lie() -> None:
    trace = trace_of([1.0, -1.0, 0.5])
    profile = profile_of(trace, 0)
    assert profile is not None
    np.testing.assert_allclose(profile.change, [3.0, 0.5, 0.0, -0.5])
    assert profile.change.mean() == pytest.approx(0.75)
    np.testing.assert_allclose(profile.shares(), [3.5 / 4, 0.0, 0.5 / 4])
    assert (profile.low <= profile.high).all()


def test_a_row_outside_the_shortlist_has_no_noise_profile() -> None:
    assert profile_of(trace_of([0.9, 0.8], [NAN, 0.5]), 0) is None


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GenerationAudit]:
    with torch.backends.mkldnn.flags(enabled=False):
        yield open_generation_audit(make_painter(tmp_path_factory.mktemp("painter"), epochs=1))


def test_a_wish_is_painted_once_and_again_when_its_picture_was_deleted(audit: GenerationAudit) -> None:
    wish = Wish("left", 3, 2, 1.0)
    assert painted(audit, wish) is None
    first = paint(audit, wish)
    assert painted(audit, wish) == first
    assert [known for known, _ in wishes(audit, 5)] == [wish]
    (audit.pictures.folder / f"{first.query.removeprefix('image:')}.png").unlink()
    assert painted(audit, wish) is None
    assert not wishes(audit, 5)
    assert paint(audit, wish) == first


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (Wish("left", -1, 2, 1.0), "no seed"),
        (Wish("left", 1, 0, 1.0), "0 steps"),
        (Wish("left", 1, 2, 99.0), "guidance"),
        (Wish("nothing", 1, 2, 1.0), "no class"),
    ],
)
def test_a_wish_that_cannot_be_is_refused_in_a_sentence(audit: GenerationAudit, wish: Wish, said: str) -> None:
    with pytest.raises(DataError, match=said):
        check(audit, wish)


def test_facts_count_the_classes_and_offer_columns_to_group_by(audit: GenerationAudit) -> None:
    found = facts.facts_of(audit)
    assert [(line.name, line.n_train, line.n_test, line.first) for line in found.classes] == [
        ("left", 12, 2, 0),
        ("right", 12, 2, 1),
    ]
    assert found.size == (8, 8)
    assert not found.planted
    assert facts.group_columns(audit) == ("class", "artist")
    assert facts.group_values(audit, "class")[:3] == ("left", "right", "left")
    assert set(facts.group_values(audit, "artist")) == {"Ada", "Ben"}
    with pytest.raises(DataError):
        facts.group_values(audit, "nowhere")
