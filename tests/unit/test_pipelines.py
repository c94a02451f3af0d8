"""Folders of ``diffusers`` pipelines: a transformer on latents by class, and a UNet that is told in words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from forwardinf_core.audits.context import AtOnce
from forwardinf_core.audits.generation.checking import UNFILTERED, check_generation
from forwardinf_core.audits.generation.facts import group_columns
from forwardinf_core.audits.generation.methods import METHODS, method_named
from forwardinf_core.audits.generation.opening import open_generation_audit
from forwardinf_core.audits.generation.painting import Wish, paint, wishes
from forwardinf_core.audits.generation.tracing import GenerationAudit
from forwardinf_core.cli import main
from forwardinf_core.errors import DataError, ModelError, ProjectError
from forwardinf_core.influence.diffusion import Draws
from tests.unit.pipelines import N, write_dit, write_text_to_image

FEW = {"draws": 2, "query_draws": 6}
LEFT, RIGHT = "left side", "right side"  # twelve tokens at most


@pytest.fixture(scope="module")
def dit(tmp_path_factory: pytest.TempPathFactory) -> GenerationAudit:
    return open_generation_audit(write_dit(tmp_path_factory.mktemp("dit")))


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> GenerationAudit:
    return open_generation_audit(write_text_to_image(tmp_path_factory.mktemp("told")))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("model", ["dit", "told"])
def test_every_method_traces_it_and_an_unchanged_model_scores_zero(
    model: str, name: str, request: pytest.FixtureRequest
) -> None:
    audit: GenerationAudit = request.getfixturevalue(model)
    (found,) = audit.trace([audit.picture("train:row-3")], method_named(name, **FEW))
    assert found.unchanged_max_abs_score == 0.0
    assert found.loss_after > found.loss_before
    assert np.isfinite(found.scores.score).all()
    assert np.ptp(found.scores.score) > 0


def test_another_autoencoder_is_another_model(dit: GenerationAudit, tmp_path: Path) -> None:
    """Latents are kept by the model's fingerprint: those of the autoencoder before must not be read back."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "other"
    shutil.copytree(dit.project.root, folder, ignore=shutil.ignore_patterns(".audit"))
    weights = next((folder / "model" / "vae").glob("*.safetensors"))
    state = load_file(weights)
    state["encoder.conv_in.weight"] *= 1.5
    save_file(state, weights, metadata={"format": "pt"})
    other = open_generation_audit(folder)
    assert other.model.fingerprint != dit.model.fingerprint
    assert not torch.allclose(other.place(AtOnce()).samples[5], dit.place(AtOnce()).samples[5])


def test_latents_are_those_of_the_autoencoder_scaled_as_the_library_scales_them(dit: GenerationAudit) -> None:
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(dit.project.root / "model" / "vae")
    pixels = np.asarray(dit.train.image(5)).astype(np.float32) / 127.5 - 1
    with torch.inference_mode():
        code = vae.encode(torch.from_numpy(pixels).permute(2, 0, 1)[None]).latent_dist.mean * vae.config.scaling_factor
    torch.testing.assert_close(dit.place(AtOnce()).samples[5], code[0], rtol=1e-4, atol=1e-5)


def test_it_paints_what_the_librarys_own_pipeline_paints(told: GenerationAudit) -> None:
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(told.project.root / "model", safety_checker=None)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    for guidance in (1.0, 4.0):
        latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(7))
        theirs = pipeline(
            LEFT, latents=latents, num_inference_steps=5, guidance_scale=guidance, height=16, width=16
        ).images[0]
        picture = paint(told, Wish(LEFT, 7, 5, guidance))
        ours = np.asarray(told.pictures.image(picture.query).convert("RGB")).astype(int)
        assert np.abs(ours - np.asarray(theirs).astype(int)).max() <= 1, guidance


def test_captions_are_encoded_once_each_and_belong_to_their_rows(told: GenerationAudit) -> None:
    place = told.place(AtOnce())
    assert place.states["text"].values.shape[0] == 2
    assert told.model.prompts is not None
    wanted = told.model.prompts.read([RIGHT])["text"][0]
    batch = place.rows(Draws(2)).batch(6, 8)  # both draws of row 3
    torch.testing.assert_close(batch["text"][1], wanted, rtol=1e-2, atol=1e-2)  # half floats on disk
    assert told.picture("train:row-3").label == RIGHT
    assert told.picture("test:row-24").label == LEFT


def test_other_captions_are_another_answer(told: GenerationAudit, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    shutil.copytree(told.project.root, folder, ignore=shutil.ignore_patterns(".audit"))
    rows = pd.read_parquet(folder / "train.parquet")
    rows.assign(caption=LEFT).to_parquet(folder / "train.parquet")
    other = open_generation_audit(folder)
    assert other.train.fingerprint == told.train.fingerprint  # the images are the same
    assert other.prints != told.prints


def test_the_prompt_matters(told: GenerationAudit) -> None:
    method = method_named("sgd", **FEW)
    picture = paint(told, Wish(LEFT, 3, 5, 1.0))
    one, two = told.trace([picture, told.picture(picture.query, RIGHT)], method)
    assert (one.picture.label, two.picture.label) == (LEFT, RIGHT)
    assert not np.array_equal(one.scores.score, two.scores.score)
    assert told.opened(two.run_id).picture.label == RIGHT
    assert wishes(told, 5)[0][0].prompt == LEFT


def test_attention_to_the_prompt_alone_may_move(told: GenerationAudit) -> None:
    method = method_named("diagonal", parameters="*attn2.to_k*,*attn2.to_v*", **FEW)
    (found,) = told.trace([told.picture("train:row-3")], method)
    assert found.loss_after > found.loss_before


def test_the_commands_speak_of_captions(
    told: GenerationAudit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, project = tmp_path / "made.png", str(told.project.root)
    assert main(["generate", project, "--out", str(out), "--prompt", LEFT, "--steps", "3", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["unread"] == 0
    query = made["query"]
    assert main(["attribute", project, "--query", query, "--prompt", LEFT, "--method", "sgd", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["query"]["class"] == LEFT
    assert {row["caption"] for row in found["top"]} <= {LEFT, RIGHT}
    assert main(["check", project]) == 0
    assert f"{N} images" in capsys.readouterr().out


def test_captions_that_are_cut_are_counted(told: GenerationAudit, tmp_path: Path) -> None:
    prompts = told.model.prompts
    assert prompts is not None
    words = "a"
    while not prompts.unread(words):
        words += " a"
    torch.testing.assert_close(prompts.read([words]), prompts.read([f"{words} a a"]))  # what is cut does not count
    assert prompts.unread(f"{words} a a") == prompts.unread(words) + 2
    folder = changed(told, tmp_path / "long")
    rows = pd.read_parquet(folder / "train.parquet")
    rows.loc[[1, 4], "caption"] = words
    rows.to_parquet(folder / "train.parquet")
    titles = [problem.title for problem in check_generation(folder).problems]
    assert titles == [f"2 of {N} captions have more than the {prompts.length} tokens that are read."]


def changed(audit: GenerationAudit, folder: Path) -> Path:
    shutil.copytree(audit.project.root, folder, ignore=shutil.ignore_patterns(".audit"))
    return folder


def refuse(folder: Path, said: str) -> None:
    with pytest.raises((ModelError, DataError), match=said):
        open_generation_audit(folder).captions  # noqa: B018  # read on demand


def test_what_is_missing_or_does_not_belong_is_one_sentence(
    told: GenerationAudit, dit: GenerationAudit, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    one = changed(told, tmp_path / "encoder")
    shutil.rmtree(one / "model" / "text_encoder")
    refuse(one, "has no text_encoder")
    two = changed(told, tmp_path / "pickle")
    (two / "model" / "text_encoder" / "model.safetensors").rename(two / "model" / "text_encoder" / "model.bin")
    refuse(two, "no safetensors weights")
    three = write_text_to_image(tmp_path_factory.mktemp("wide"), states=32)
    refuse(three, "makes 32 numbers a token and the denoiser takes 16")
    four = changed(told, tmp_path / "captions")
    pd.read_parquet(four / "train.parquet").drop(columns="caption").to_parquet(four / "train.parquet")
    refuse(four, "have no captions")
    five = changed(dit, tmp_path / "vae")
    settings = json.loads((five / "model" / "transformer" / "config.json").read_text())
    settings |= {"in_channels": 3, "out_channels": 6}
    (five / "model" / "transformer" / "config.json").write_text(json.dumps(settings))
    refuse(five, "cannot be loaded|belong to different models|makes 4 channels")
    six = changed(dit, tmp_path / "flow")
    where = six / "model" / "scheduler" / "scheduler_config.json"
    where.write_text(json.dumps({"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000}))
    refuse(six, "no known noise levels")
    seven = changed(told, tmp_path / "two")
    settings = json.loads((seven / "model" / "unet" / "config.json").read_text())
    settings |= {"addition_embed_type": "text", "addition_embed_type_num_heads": 4, "encoder_hid_dim": 16}
    (seven / "model" / "unet" / "config.json").write_text(json.dumps(settings))
    refuse(seven, "told more than a prompt|cannot be loaded")


def test_a_column_of_captions_can_be_named(told: GenerationAudit, tmp_path: Path) -> None:
    folder = changed(told, tmp_path / "named")
    for split in ("train", "test"):
        rows = pd.read_parquet(folder / f"{split}.parquet")
        rows.rename(columns={"caption": "says"}).to_parquet(folder / f"{split}.parquet")
    config = yaml.safe_load((folder / "project.yaml").read_text())
    for split in ("train", "test"):
        config[split]["caption"] = "says"
    (folder / "project.yaml").write_text(yaml.safe_dump(config))
    assert set(open_generation_audit(folder).captions) == {(LEFT,), (RIGHT,)}


def test_a_pipeline_in_half_precision_alone_is_read(told: GenerationAudit, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = changed(told, tmp_path / "half")
    for weights in (folder / "model").rglob("*.safetensors"):
        halves = {name: value.half() for name, value in load_file(weights).items()}
        save_file(halves, weights.with_suffix(".fp16.safetensors"), metadata={"format": "pt"})
        weights.unlink()
    read = dict(open_generation_audit(folder).model.module.state_dict())
    for name, value in told.model.module.state_dict().items():
        assert torch.equal(read[name], value.half().float())


def test_several_captions_a_row_and_mirrored_pictures_are_drawn_as_the_model_was_trained(
    told: GenerationAudit, tmp_path: Path
) -> None:
    folder = changed(told, tmp_path / "several")
    table = pd.read_parquet(folder / "train.parquet")
    table["caption"] = [[one, RIGHT, None] if number % 2 else [one] for number, one in enumerate(table["caption"])]
    table.to_parquet(folder / "train.parquet")
    config = yaml.safe_load((folder / "project.yaml").read_text())
    config["model"]["mirrors"] = True
    (folder / "project.yaml").write_text(yaml.safe_dump(config))
    audit = open_generation_audit(folder)
    assert {len(each) for each in audit.captions} == {1, 2}
    place = audit.place(AtOnce())
    assert place.mirrored is not None
    batch = place.rows(Draws(8)).batch(0, 8 * N)
    pixels = audit.model.codec.encode([audit.train.image(3).transpose(Image.Transpose.FLIP_LEFT_RIGHT)])
    torch.testing.assert_close(place.mirrored[3], pixels[0])
    of_third = batch["x"].reshape(N, 8, *batch["x"].shape[1:])[3]
    mirrored = [bool(torch.equal(one, place.mirrored[3])) for one in of_third]
    assert 0 < sum(mirrored) < 8
    query = audit.picture("train:row-3")
    assert isinstance(query.label, str)
    (found,) = audit.trace([query], method_named("unlearn", **FEW))
    assert found.unchanged_max_abs_score == 0.0
    assert np.isfinite(found.scores.score).all()
    assert "caption" not in group_columns(audit)


def test_mirrors_are_for_diffusers_models_alone(told: GenerationAudit, tmp_path: Path) -> None:
    folder = changed(told, tmp_path / "baseline")
    config = yaml.safe_load((folder / "project.yaml").read_text())
    config["model"] = {"kind": "baseline", "path": "model/", "mirrors": True}
    (folder / "project.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(ProjectError, match=r"model\.mirrors is given"):
        open_generation_audit(folder)


def test_a_safety_checker_is_said_not_to_run(
    told: GenerationAudit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = changed(told, tmp_path / "checked")
    index = json.loads((folder / "model" / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    (folder / "model" / "model_index.json").write_text(json.dumps(index))
    assert UNFILTERED[0] in [problem.title for problem in check_generation(folder).problems]
    asked = ["generate", str(folder), "--prompt", LEFT, "--steps", "1", "--out", str(tmp_path / "out.png")]
    assert main(asked) == 0
    assert UNFILTERED[0] in capsys.readouterr().out
    assert not told.model.has_filter
