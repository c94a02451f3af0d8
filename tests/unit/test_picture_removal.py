"""Does a picture's answer hold? Retraining without the images that helped, against an answer that is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from forwardinf_core.audits.context import AtOnce
from forwardinf_core.audits.generation.methods import method_named
from forwardinf_core.audits.generation.opening import open_generation_audit
from forwardinf_core.audits.generation.painting import Wish, paint
from forwardinf_core.audits.generation.records import Picture
from forwardinf_core.audits.generation.tracing import GenerationAudit
from forwardinf_core.cli import main
from forwardinf_core.errors import DataError, ModelError
from forwardinf_core.influence.diffusion import DrawRows, Draws
from forwardinf_core.jobs import run as jobs
from forwardinf_core.verification import picture_removal as removal
from forwardinf_core.verification.denoiser_recipe import JUDGED, denoiser_recipe, judged
from forwardinf_core.verification.retraining import Examples, Task
from tests.pages.small_painter import make_painter

EPOCHS = 25


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> GenerationAudit:
    return open_generation_audit(make_painter(tmp_path_factory.mktemp("painter"), epochs=EPOCHS))


@pytest.fixture(scope="module")
def picture(audit: GenerationAudit) -> Picture:
    return paint(audit, Wish("left", 1, 8, 1.0))


@pytest.fixture(scope="module")
def found(audit: GenerationAudit, picture: Picture) -> removal.PictureRemoval:
    options = removal.options_of(audit, picture, method_named("sgd", query_draws=20), k=5, seeds=2)
    return removal.checked(audit, options, lambda _share, _note: None)


def test_the_recipe_trains_the_projects_own_model(audit: GenerationAudit) -> None:
    recipe = denoiser_recipe(audit, {}, AtOnce())
    assert recipe.training.epochs == EPOCHS
    with torch.backends.mkldnn.flags(enabled=False):  # as it was trained
        trained = recipe.network(Task(np.arange(len(audit.train)), recipe.training.seed)).module
    own = dict(audit.model.module.named_parameters())
    for name, value in trained.named_parameters():
        torch.testing.assert_close(value, own[name], rtol=0, atol=0)


def test_a_picture_is_judged_by_the_plain_mean_of_squared_errors(audit: GenerationAudit) -> None:
    sample, label = audit.place(AtOnce()).samples[:1].clone(), torch.tensor([0])
    rows = DrawRows(["judged 0"], sample, {"label": label}, JUDGED, audit.model.n_timesteps)
    by_hand = []
    for draw in range(JUDGED.count):
        batch = rows.batch(draw, draw + 1)
        with torch.inference_mode():
            said = audit.model.objective.outputs(audit.model.module, batch)
        by_hand.append(float(((said - audit.model.objective.target(batch)) ** 2).mean()))
    np.testing.assert_allclose(judged(audit.model, Examples(sample, label))[0].numpy(), by_hand, rtol=1e-4)
    assert Draws(10, seed=0) != JUDGED


def test_the_images_that_helped_are_left_out_and_the_loss_is_compared_within_a_seed(
    audit: GenerationAudit, picture: Picture, found: removal.PictureRemoval
) -> None:
    answer = audit.stored(picture, found.options.method)
    assert answer is not None
    assert found.top.tolist() == answer.scores.top(5).tolist()
    rises = {way: found.losses[way] - found.losses["all"] for way in removal.WAYS}
    assert found.rise.mean == pytest.approx(rises["top"].mean())
    assert found.more.mean == pytest.approx((rises["top"] - rises["random"]).mean())
    assert all(len(values) == 2 for values in found.losses.values())
    assert found.verdict in ("green", "amber", "red")


def test_the_outcome_is_that_of_a_training_without_those_images(
    audit: GenerationAudit, picture: Picture, found: removal.PictureRemoval
) -> None:
    recipe = denoiser_recipe(audit, picture.made, AtOnce())
    watched = Examples(audit.model.codec.encode([audit.pictures.image(picture.query)]), torch.tensor([picture.label]))
    task = Task.without(len(audit.train), found.top, 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    outputs = recipe.outputs(task, watched)
    torch.set_num_threads(threads)
    assert found.losses["top"][1] == pytest.approx(float(outputs[0, : JUDGED.count].mean()), rel=1e-3)


def test_the_same_seed_is_painted_again_and_kept(audit: GenerationAudit, found: removal.PictureRemoval) -> None:
    assert set(found.paintings) == set(removal.WAYS)
    assert audit.pictures.image(found.paintings["top"]).size == (8, 8)
    assert all(0 <= values.min() <= values.max() <= 1 for values in found.apart.values())


def test_a_picture_that_was_not_painted_here_is_judged_by_its_loss_alone(audit: GenerationAudit) -> None:
    recipe = denoiser_recipe(audit, {}, AtOnce())
    assert recipe.n_classes == JUDGED.count
    options = removal.options_of(
        audit, audit.picture("train:train-3"), method_named("sgd", query_draws=20), k=3, seeds=2
    )
    one = removal.checked(audit, options, lambda _share, _note: None)
    assert one.paintings == {}
    assert np.isnan(one.apart["top"]).all()
    assert np.isfinite(one.losses["top"]).all()


def test_a_finished_check_leads_to_the_answer_it_checked(
    audit: GenerationAudit, picture: Picture, found: removal.PictureRemoval
) -> None:
    result = jobs.run_here(removal.KIND, audit.folder, found.options)
    assert result["run"] == found.run_id
    assert audit.opened(str(result["answer"])).picture == picture


def test_the_command_tells_every_figure(
    audit: GenerationAudit, picture: Picture, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["verify", str(audit.folder), "removal", "--query", picture.query, "--target", "left", "--method", "sgd"]
    assert main([*asked, "--k", "5", "--seeds", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["scope"] == "model"
    assert told["difference"] == pytest.approx(told["rise_top"] - told["rise_random"])
    assert len(told["removed"]) == 5
    assert main([*asked, "--k", "5", "--seeds", "2"]) == 0
    assert "without the images that helped most" in capsys.readouterr().out


def test_what_cannot_be_checked_is_one_sentence(audit: GenerationAudit, picture: Picture, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="give no interval"):
        removal.options_of(audit, picture, method_named(None), seeds=1)
    folder = make_painter(tmp_path, epochs=1)
    (folder / "model" / "training.json").unlink()
    other = open_generation_audit(folder)
    with pytest.raises(ModelError, match="how it was trained is not known"):
        removal.options_of(other, other.picture("train:train-3"), method_named(None))
