"""Leaked test rows are found, told apart from look-alikes, and said with the confidence they deserve."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.leakage import pictures, report
from forwardinf_core.audits.leakage.altered_pictures import KINDS, altered
from forwardinf_core.audits.leakage.checks import check_rows
from forwardinf_core.audits.leakage.fusion import confidence, estimated_prior, sigmoid
from forwardinf_core.audits.leakage.groups import hanging_together
from forwardinf_core.audits.leakage.records import EXACT, NONE, OTHER_LABEL, SAME_LABEL, Leakage
from forwardinf_core.audits.leakage.verdicts import reasons_of
from forwardinf_core.cli import main
from forwardinf_core.datasets.views import Relabelled, Subset
from forwardinf_core.errors import DataError


def picture(seed: int = 0, size: int = 32) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((size, size), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def found(digits_audit: Audit) -> Leakage:
    return report.run(digits_audit)


def with_rows(audit: Audit, **changes: object) -> Audit:
    train, test = changes.get("train", audit.train), changes.get("test", audit.test)
    return Audit(audit.project, audit.model, train, test)  # type: ignore[arg-type]


def test_every_planted_copy_is_found_and_nothing_else_is_called_exact(digits_audit: Audit, found: Leakage) -> None:
    planted = {
        digits_audit.planted(position).rpartition(" ")[2]: position
        for position in range(len(digits_audit.train_ids))
        if digits_audit.planted(position).startswith("Planted copy")
    }
    exact = {pair.query.removeprefix("test:"): pair.train for pair in found.pairs if pair.verdict == EXACT}
    assert exact == planted


def test_a_copy_agrees_with_its_own_row_through_the_head(digits_audit: Audit, found: Leakage) -> None:
    copies = [pair for pair in found.pairs if pair.verdict == EXACT and pair.labels == SAME_LABEL]
    assert copies
    assert all(pair.influence_cosine == pytest.approx(1.0, abs=1e-3) for pair in copies)


def test_a_row_without_a_copy_has_no_verdict_and_still_names_its_nearest_row(found: Leakage) -> None:
    others = [pair for pair in found.pairs if pair.verdict == NONE]
    assert len(others) > 400
    assert all(0 <= pair.score < 0.5 for pair in others)


def test_copies_across_the_splits_are_one_group_each(found: Leakage) -> None:
    across = [group for group in found.groups if group.test and group.train]
    assert sum(len(group.test) for group in across) >= 12


def test_reasons_name_the_labels_and_the_pixels(found: Leakage) -> None:
    copy = next(pair for pair in found.pairs if pair.verdict == EXACT)
    reasons = " ".join(reasons_of(copy))
    assert "same pixels" in reasons
    assert "label" in reasons


def test_the_check_on_the_other_half_is_stored_with_the_run(found: Leakage) -> None:
    assert found.check["n_planted"] > 100
    assert 0.0 <= float(found.check["brier"]) <= 0.3  # type: ignore[arg-type]  # a coin would have 0.25
    assert set(found.alone) == {"hash", "grey", "patches", "halfway", "features"}


def test_an_uploaded_copy_is_recognised_and_an_altered_one_is_ranked_first(digits_audit: Audit, found: Leakage) -> None:
    buffer = io.BytesIO()
    digits_audit.train.image(5).save(buffer, "BMP")
    query = digits_audit.add_upload(buffer.getvalue(), "copy.bmp")
    (pair,) = report.pairs_of(digits_audit, found, [query])
    assert (pair.train, pair.verdict, pair.score) == (5, EXACT, 1.0)


def test_the_scores_file_has_exactly_the_agreed_columns(
    digits_audit: Audit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["leakage", "demo:digits", "--scores", str(tmp_path / "out.parquet"), "--json"]) == 0
    table = pd.read_parquet(tmp_path / "out.parquet")
    assert list(table.columns) == ["test_id", "train_id", "score", "verdict"]
    assert list(table["test_id"]) == list(digits_audit.test_ids)
    said = json.loads(capsys.readouterr().out)
    assert said["verdicts"][EXACT] == 12
    assert said["accuracy"]["all"]["rows"] == len(table)


def test_chosen_queries_are_answered_alone(
    digits_audit: Audit, found: Leakage, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = next(pair for pair in found.pairs if pair.verdict == EXACT)
    assert main(["leakage", "demo:digits", "--query", copy.query, "--method", "head", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [pair["query"] for pair in said["pairs"]] == [copy.query]
    assert said["pairs"][0]["rank_by_method"] >= 1


def test_grey_pictures_ignore_brightness_and_contrast() -> None:
    first = picture()
    second = Image.fromarray((np.asarray(first, dtype=np.float32) * 0.6 + 40).astype(np.uint8))
    one, other = pictures.grey_pictures([first, second])
    assert one @ other > 0.999
    assert one @ pictures.grey_pictures([picture(1)])[0] < 0.5


def test_a_picture_of_one_colour_correlates_with_nothing() -> None:
    flat = Image.new("RGB", (32, 32), (90, 90, 90))
    assert not pictures.grey_pictures([flat]).any()


@pytest.mark.parametrize("kind", KINDS)
def test_an_altered_copy_differs_and_repeats_with_its_seed(kind: str) -> None:
    image = picture()
    first = altered(image, kind, np.random.default_rng(3))
    again = altered(image, kind, np.random.default_rng(3))
    assert first.size == image.size
    assert first.mode == image.mode
    assert first.tobytes() == again.tobytes() != image.tobytes()


def test_the_estimated_share_of_copies_is_that_of_the_evidence() -> None:
    generator = np.random.default_rng(0)
    log_odds = np.concatenate([generator.normal(4, 2, 50), generator.normal(-4, 2, 950)])
    log_odds = 2 * log_odds  # two normals 8 apart with deviation 2: log-odds are 2 x
    assert estimated_prior(log_odds) == pytest.approx(0.05, abs=0.01)


def test_confidence_at_even_odds_is_the_learned_one() -> None:
    log_odds = np.linspace(-5, 5, 11)
    assert np.allclose(confidence(log_odds, 0.5), sigmoid(log_odds))


def test_groups_are_the_connected_rows_with_their_weakest_edge() -> None:
    edges = np.asarray([[0, 1, 0.9], [1, 2, 0.6], [5, 6, 0.99]])
    groups = hanging_together(edges, 8)
    assert [(members.tolist(), score) for members, score in groups] == [([5, 6], 0.99), ([0, 1, 2], 0.6)]


def test_the_same_file_for_train_and_test_is_refused_in_a_sentence(digits_audit: Audit) -> None:
    with pytest.raises(DataError, match="Train and test are the same rows"):
        check_rows(with_rows(digits_audit, test=digits_audit.train))


def test_training_rows_that_are_all_one_picture_are_refused_in_a_sentence(digits_audit: Audit) -> None:
    class Repeated(Subset):
        @property
        def digests(self) -> np.ndarray:
            return np.repeat(super().digests[:1], len(self), axis=0)

    with pytest.raises(DataError, match="All training rows are the same picture"):
        check_rows(with_rows(digits_audit, train=Repeated(digits_audit.train, np.arange(30))))


def test_ids_in_both_splits_are_said_and_not_taken_for_copies(digits_audit: Audit) -> None:
    (note,) = check_rows(with_rows(digits_audit, train=Subset(digits_audit.test, np.arange(40))))
    assert "40 ids occur in both splits" in note


def test_test_rows_without_a_label_are_said(digits_audit: Audit) -> None:
    labels = digits_audit.test.labels.copy()
    labels[:3] = -1
    (note,) = check_rows(with_rows(digits_audit, test=Relabelled(digits_audit.test, labels)))
    assert note.startswith("3 of 497 test rows have no label")


def test_a_pair_says_when_its_labels_conflict(found: Leakage) -> None:
    assert {pair.labels for pair in found.pairs} <= {SAME_LABEL, OTHER_LABEL}
