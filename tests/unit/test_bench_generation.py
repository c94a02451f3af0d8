"""``bench generation``: closed forms of its figures, and every part on pictures so few that it takes seconds."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from forwardinf_core.audits.generation.methods import DEFAULT, method_named
from forwardinf_core.benchmarks import generation_planted, generation_retraining
from forwardinf_core.benchmarks.generation_cost import measure_cost
from forwardinf_core.benchmarks.generation_figures import (
    SSIM_K1,
    SSIM_K2,
    mean_interval,
    rank_of,
    recall_at,
    share_interval,
    squared_error,
    ssim,
)
from forwardinf_core.benchmarks.generation_halves import measure_halves
from forwardinf_core.benchmarks.generation_planted import measure_planted, tuned_model
from forwardinf_core.benchmarks.generation_removal import CLASS, compared, measure_removal, removals, tasks_of
from forwardinf_core.benchmarks.generation_retraining import Judgement, Pictures
from forwardinf_core.benchmarks.generation_scores import BASELINES, methods_asked
from forwardinf_core.benchmarks.generation_self import measure_self
from forwardinf_core.benchmarks.generation_sets import PaintRecipe, PictureSet, make_set, recipe_named
from forwardinf_core.cli import main
from forwardinf_core.errors import DataError, ShapeError
from forwardinf_core.models.denoiser_baseline import DenoiserConfig
from forwardinf_core.models.denoiser_training import DenoiserTraining

N = 24
FEW = {"draws": 3, "query_draws": 8}
METHODS = {DEFAULT: method_named(DEFAULT, **FEW), "short": method_named("sgd", shortlist=0.5, **FEW)}


def silent(_done: float, _note: str) -> None:
    return


def table(name: str, count: int, seed: int) -> pd.DataFrame:
    """Two classes of 8×8 pictures: bright on the left, or on the right, with noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    pixels = rng.integers(0, 90, (count, 8, 8)).astype(np.uint8)
    for row, label in enumerate(labels):
        pixels[row, :, 4 * label : 4 * label + 4] += 150
    content = []
    for one in pixels:
        buffer = io.BytesIO()
        Image.fromarray(one).save(buffer, "PNG")
        content.append(buffer.getvalue())
    return pd.DataFrame({"id": [f"{name}-{n}" for n in range(count)], "image": content, "label": labels})


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> PictureSet:
    recipe = PaintRecipe(
        DenoiserConfig(2, 1, 8, 8, 2),
        DenoiserTraining(epochs=10, batch_size=12, learning_rate=4e-3, averaging=0.9),
        "v_prediction",
    )
    folder = tmp_path_factory.mktemp("sides")
    return make_set("sides", folder, recipe, table("train", N, 0), table("held", 8, 1))


@pytest.fixture(scope="module")
def pictures(chosen: PictureSet) -> Iterator[Pictures]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generation_retraining, "PICTURES", 4)
        yield Pictures(chosen)


def test_ssim_of_even_pictures_is_its_closed_form() -> None:
    c1 = SSIM_K1**2
    for a, b in ((0.2, 0.7), (0.0, 1.0)):
        found = ssim(np.full((8, 8), a), np.full((8, 8), b))
        assert found == pytest.approx((2 * a * b + c1) / (a**2 + b**2 + c1), rel=1e-9)


def test_ssim_of_a_picture_and_its_negative_in_one_window_is_its_closed_form() -> None:
    picture = np.random.default_rng(0).random((7, 7))
    picture += 0.5 - picture.mean()  # the negative then has the same mean
    variance = picture.var()
    expected = (-2 * variance + SSIM_K2**2) / (2 * variance + SSIM_K2**2)
    assert ssim(picture, 1 - picture) == pytest.approx(expected, rel=1e-9)
    assert ssim(picture, picture) == pytest.approx(1.0)


def test_ssim_is_the_mean_over_windows_and_refuses_what_cannot_be_compared() -> None:
    one, other = np.random.default_rng(1).random((2, 8, 9))
    parts = [ssim(one[y : y + 7, x : x + 7], other[y : y + 7, x : x + 7]) for y in range(2) for x in range(3)]
    assert ssim(one, other) == pytest.approx(np.mean(parts))
    with pytest.raises(ShapeError):
        ssim(one, other[:7])
    with pytest.raises(ShapeError):
        ssim(one[:6], other[:6])


def test_ranks_count_equal_scores_against_the_row() -> None:
    scores = np.array([0.3, 0.9, 0.9, 0.1])
    assert [rank_of(scores, row) for row in range(4)] == [3, 2, 2, 4]


def test_recall_is_a_share_of_what_fits() -> None:
    scores = np.array([5.0, 4.0, 3.0, 2.0, 1.0])
    assert recall_at(scores, [0, 3], 1) == 1
    assert recall_at(scores, [0, 3], 2) == 0.5
    assert recall_at(scores, [0, 3], 4) == 1
    assert recall_at(scores, [4], 3) == 0


def test_intervals() -> None:
    wilson = share_interval(8, 10)
    assert (wilson.mean, round(wilson.low, 4), round(wilson.high, 4)) == (0.8, 0.4902, 0.9433)
    assert share_interval(10, 10).high == pytest.approx(1.0)
    same = mean_interval(np.full(6, 0.25))
    assert (same.mean, same.low, same.high) == (0.25, 0.25, 0.25)
    values = np.random.default_rng(0).normal(size=400)
    found = mean_interval(values)
    reach = 1.96 * values.std() / 20
    assert found.low == pytest.approx(values.mean() - reach, abs=0.02)
    assert found.high == pytest.approx(values.mean() + reach, abs=0.02)
    assert squared_error(np.zeros((2, 2)), np.full((2, 2), 0.5)) == 0.25


def test_methods_are_asked_for_with_options() -> None:
    (method,) = methods_asked(["ekfac:damping=0.01,draws=20,form=skew"]).values()
    assert (method.step, method.damping, method.draws, method.form) == ("ekfac", 0.01, 20, "skew")
    for wrong in ("ekfac:size=3", "ekfac:draws=many", "ekfac:draws=0.5"):
        with pytest.raises(DataError):
            methods_asked([wrong])


def test_pictures_are_those_that_the_app_generates(chosen: PictureSet) -> None:
    model = chosen.base
    found = generation_retraining.painted(model, torch.tensor([0, 1, 1]), [3, 4, 5])
    for number, label in enumerate((0, 1, 1)):
        (alone,) = model.generate(label, count=1, seed=3 + number)
        together = np.asarray(model.codec.decode(found)[number], np.int16)
        assert np.abs(together - np.asarray(alone, np.int16)).max() <= 1  # batches round differently


def test_self_retrieval_and_scores_that_are_read_back(chosen: PictureSet) -> None:
    first = measure_self(chosen, "report", 6, METHODS, silent)
    kept = sorted((chosen.folder / "scores").iterdir())
    assert measure_self(chosen, "report", 6, METHODS, silent) == first
    assert sorted((chosen.folder / "scores").iterdir()) == kept
    by_name = {one.ranking: one for one in first}
    assert list(by_name) == [*BASELINES, *METHODS]
    assert by_name["pixel"].first.mean == by_name["feature"].first.mean == 1
    assert by_name[DEFAULT].median_rank < by_name["random"].median_rank
    other = measure_self(chosen, "choose", 6, {}, silent)
    assert other[-1].ranks != by_name["random"].ranks


def test_exemplars_are_found_behind_what_a_tuned_model_paints(
    chosen: PictureSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation_planted, "VISITS", 24)
    tuned = tuned_model(chosen, 2, 3)
    assert tuned.exemplars == (N, N + 1, N + 2)
    assert {tuned.scene.rows.ids[row].split("-")[0] for row in tuned.exemplars} == {"held"}
    labels = {int(tuned.scene.rows.labels[row]) for row in tuned.exemplars} | {one.label for one in tuned.queries}
    assert len(labels) == 1
    assert tuned.scene.model.fingerprint == tuned_model(chosen, 2, 3).scene.model.fingerprint
    assert tuned.scene.model.fingerprint != chosen.base.fingerprint
    found = measure_planted(chosen, "report", 3, {"sgd": method_named("sgd", **FEW)}, silent)
    whole = {one.ranking: one for one in found if one.exemplars == 0}
    assert whole["sgd"].n_models == 3
    assert whole["sgd"].recall["30"].mean == 1  # there are no more rows


def test_the_effect_of_a_removal_is_its_closed_form() -> None:
    paintings = np.zeros((2, 8, 8))
    full, without = Judgement(np.array([1.0, 2.0]), paintings), Judgement(np.array([1.5, 2.0]), paintings + 0.5)
    rise, relative, error, likeness = compared(full, without, 0)
    assert (rise, relative, error) == (0.5, 0.5, 0.25)
    assert likeness == pytest.approx(SSIM_K1**2 / (0.25 + SSIM_K1**2))


def test_removal_trains_each_set_of_rows_once_and_goes_on_from_its_folder(
    chosen: PictureSet, pictures: Pictures
) -> None:
    numbers = pictures.half("report", 2)
    sets = removals(pictures, numbers, METHODS, 0.25, silent)
    assert {len(rows) for by_picture in sets.values() for each in by_picture for rows in each} == {6}
    assert {int(chosen.rows.labels[row]) for row in sets[CLASS][1][0]} == {int(pictures.watched.labels[numbers[1]])}
    twice = sets | {"again": sets[DEFAULT]}
    assert len(tasks_of(N, twice, [1])) == len(tasks_of(N, sets, [1]))
    options = {"share": 0.25, "seeds": 1, "workers": 1, "report": silent}
    found = measure_removal(pictures, numbers, METHODS, **options)
    kept = {path: path.stat().st_mtime_ns for path in (chosen.folder / "retrained").iterdir()}
    assert measure_removal(Pictures(chosen), numbers, METHODS, **options) == found
    assert {path: path.stat().st_mtime_ns for path in (chosen.folder / "retrained").iterdir()} == kept
    by_name = {one.ranking: one for one in found}
    assert by_name[DEFAULT].beyond_default is None
    beyond = by_name[DEFAULT].rise.mean - by_name["random"].rise.mean
    assert by_name["random"].beyond_default is not None
    assert by_name["random"].beyond_default.mean == pytest.approx(beyond)
    assert all(np.isfinite(one.rise.mean) and one.mse.mean >= 0 and one.ssim.mean <= 1 for one in found)


def test_halves_judge_pictures_of_both_kinds(pictures: Pictures) -> None:
    found = measure_halves(
        pictures, pictures.half("choose", 2), {DEFAULT: METHODS[DEFAULT]}, halves=10, workers=1, report=silent
    )
    assert [one.ranking for one in found] == [*BASELINES, DEFAULT]
    assert all(one.n_halves == 10 and -1 <= one.lds.mean <= 1 for one in found)


def test_cost_is_told_in_plain_passes(chosen: PictureSet) -> None:
    monkey = {"sgd": method_named("sgd", **FEW)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generation_retraining, "PICTURES", 8)
        (found,) = measure_cost(chosen, monkey)
    assert found.n_draws == 3 * N
    assert found.first > 0
    assert found.further > 0
    assert found.peak_mib > 50


def test_recipes_and_sets_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert recipe_named("painter", "digits").config == DenoiserConfig(10, 1, 8, 24, 2)
    assert recipe_named("small", "fashion").config.size == 16
    assert main(["bench", "generation", "--set", "faces", "--work", str(tmp_path)]) != 0
    assert main(["bench", "generation", "--part", "beauty", "--work", str(tmp_path)]) != 0
    assert main(["bench", "generation", "--set", "fashion", "--work", str(tmp_path)]) != 0
    assert "Fashion-MNIST" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_prints_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--part", "self", "--queries", "2", "--method", "sgd:draws=2", "--work", str(tmp_path), "--json"]
    assert main(["bench", "generation", *asked]) == 0
    records = json.loads(capsys.readouterr().out)
    assert [one["ranking"] for one in records] == [*BASELINES, "sgd:draws=2"]
    assert records[-1]["options"]["draws"] == 2
    assert records[-1]["n_rows"] == 1_500
