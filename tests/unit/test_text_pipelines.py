"""Pipelines told in words by more than one text encoder's last states: Stable Diffusion XL and PixArt."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from forwardinf_core.audits.context import AtOnce
from forwardinf_core.audits.generation.checking import check_generation
from forwardinf_core.audits.generation.methods import METHODS, method_named
from forwardinf_core.audits.generation.opening import open_generation_audit
from forwardinf_core.audits.generation.painting import Wish, paint
from forwardinf_core.audits.generation.tracing import GenerationAudit
from forwardinf_core.cli import main
from forwardinf_core.influence.diffusion import Draws
from tests.unit.pipelines import N, write_pixart, write_xl
from tests.unit.test_pipelines import FEW, LEFT, RIGHT, changed, refuse

MODELS = ["xl", "sigma", "alpha"]
TRACED = [(model, name) for model in MODELS for name in METHODS if model != "alpha" or name == "ekfac"]  # it is large


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> GenerationAudit:
    return open_generation_audit(write_xl(tmp_path_factory.mktemp("xl")))


@pytest.fixture(scope="module")
def sigma(tmp_path_factory: pytest.TempPathFactory) -> GenerationAudit:
    return open_generation_audit(write_pixart(tmp_path_factory.mktemp("sigma")))


@pytest.fixture(scope="module")
def alpha(tmp_path_factory: pytest.TempPathFactory) -> GenerationAudit:
    return open_generation_audit(write_pixart(tmp_path_factory.mktemp("alpha"), sizes=True))


@pytest.fixture
def audit(request: pytest.FixtureRequest) -> GenerationAudit:
    found: GenerationAudit = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize(("audit", "name"), TRACED, indirect=["audit"])
def test_every_method_traces_it_and_an_unchanged_model_scores_zero(audit: GenerationAudit, name: str) -> None:
    (found,) = audit.trace([audit.picture("train:row-3")], method_named(name, **FEW, second_draws=2))
    assert found.unchanged_max_abs_score == 0.0
    assert found.loss_after > found.loss_before
    assert np.isfinite(found.scores.score).all()
    assert np.ptp(found.scores.score) > 0


@pytest.mark.parametrize("audit", MODELS, indirect=True)
def test_it_paints_what_the_librarys_own_pipeline_paints(audit: GenerationAudit) -> None:
    for guidance in (1.0, 4.0):
        picture = paint(audit, Wish(LEFT, 7, 5, guidance))
        ours = np.asarray(audit.pictures.image(picture.query).convert("RGB")).astype(int)
        assert np.abs(ours - painted_by_the_library(audit, guidance)).max() <= 1, guidance
    assert np.ptp(ours) > 20  # a picture, and no plain grey


def painted_by_the_library(audit: GenerationAudit, guidance: float) -> np.ndarray:
    from diffusers import DDIMScheduler, DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(audit.project.root / "model")
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    pipeline.set_progress_bar_config(disable=True)
    latents = torch.randn(1, *audit.model.codec.shape, generator=torch.Generator().manual_seed(7))
    side = audit.model.codec.shape[-1] * 2
    own = {} if "XL" in type(pipeline).__name__ else {"use_resolution_binning": False, "clean_caption": False}
    images = pipeline(
        LEFT, latents=latents, num_inference_steps=5, guidance_scale=guidance, height=side, width=side, **own
    ).images
    return np.asarray(images[0]).astype(int)


def test_latents_are_centred_and_scaled_by_channel_where_the_autoencoder_says_so(
    xl: GenerationAudit, tmp_path: Path
) -> None:
    folder = changed(xl, tmp_path / "centred")
    mean, std = [0.1, -0.2, 0.3, 0.0], [0.5, 1.0, 2.0, 1.5]
    _settings(folder / "model" / "vae" / "config.json", latents_mean=mean, latents_std=std)
    audit = open_generation_audit(folder)
    plain, found = (one.model.codec.encode([one.train.image(5)]) for one in (xl, audit))
    scale = 0.18215  # the usual one, which both have
    centred = (plain / scale - torch.tensor(mean).reshape(1, 4, 1, 1)) * scale / torch.tensor(std).reshape(1, 4, 1, 1)
    torch.testing.assert_close(found, centred, rtol=1e-4, atol=1e-5)
    picture = paint(audit, Wish(LEFT, 7, 5, 1.0))
    ours = np.asarray(audit.pictures.image(picture.query).convert("RGB")).astype(int)
    assert np.abs(ours - painted_by_the_library(audit, 1.0)).max() <= 1


def test_guidance_goes_away_from_the_empty_prompt_where_the_pipeline_says_so(tmp_path: Path) -> None:
    audit = open_generation_audit(write_xl(tmp_path / "empty", zeros=False))
    picture = paint(audit, Wish(LEFT, 7, 5, 4.0))
    ours = np.asarray(audit.pictures.image(picture.query).convert("RGB")).astype(int)
    assert np.abs(ours - painted_by_the_library(audit, 4.0)).max() <= 1


def test_all_that_the_denoiser_is_told_belongs_to_the_rows(xl: GenerationAudit, alpha: GenerationAudit) -> None:
    batch = xl.place(AtOnce()).rows(Draws(2)).batch(6, 8)  # both draws of row 3
    assert xl.model.prompts is not None
    wanted = xl.model.prompts.entries([RIGHT])
    assert {name: value.shape for name, value in wanted.items()} == {
        "text": (1, 12, 28),
        "pooled": (1, 6),
        "sizes": (1, 6),
    }
    assert wanted["sizes"].tolist() == [[16.0, 16.0, 0.0, 0.0, 16.0, 16.0]]
    for name, value in wanted.items():
        torch.testing.assert_close(batch[name][1], value[0], rtol=1e-2, atol=1e-2)  # half floats on disk
    batch = alpha.place(AtOnce()).rows(Draws(2)).batch(6, 8)
    assert batch["text"].shape == (2, 120, 16)
    assert batch["mask"].sum(1).tolist() == [len(RIGHT) + 1 + 1] * 2  # a letter is a piece; a mark of words; the end
    assert (batch["resolution"].tolist(), batch["aspect"].tolist()) == ([[256.0, 256.0]] * 2, [[1.0]] * 2)


def test_captions_are_encoded_once_each_and_go_on_where_they_were_stopped(sigma: GenerationAudit) -> None:
    place = sigma.place(AtOnce())
    assert {name: len(entry.values) for name, entry in place.states.items()} == {"text": 2, "mask": 2}
    shutil.rmtree(next((sigma.project.audit_dir / "caches").glob("captions-mask-*")))
    again = sigma.place(AtOnce()).states
    torch.testing.assert_close(again["mask"].values, place.states["mask"].values, rtol=0, atol=0)


def test_padding_and_capitals_do_not_count_where_the_prompt_is_masked(sigma: GenerationAudit) -> None:
    prompts = sigma.model.prompts
    assert prompts is not None
    torch.testing.assert_close(prompts.read([LEFT]), prompts.read([f" {LEFT.upper()} "]))
    assert prompts.length == 300
    entries = prompts.entries([LEFT])
    samples, timestep = torch.randn(1, 4, 8, 8), torch.tensor([50])
    before = sigma.model._call(samples, timestep, entries)
    entries["text"][entries["mask"] == 0] = 7.0
    torch.testing.assert_close(sigma.model._call(samples, timestep, entries), before)


@pytest.mark.parametrize("audit", ["xl", "sigma"], indirect=True)
def test_the_commands_speak_of_captions(
    audit: GenerationAudit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, project = tmp_path / "made.png", str(audit.project.root)
    assert main(["generate", project, "--out", str(out), "--prompt", LEFT, "--steps", "3", "--json"]) == 0
    query = json.loads(capsys.readouterr().out)["query"]
    assert main(["attribute", project, "--query", query, "--prompt", LEFT, "--method", "sgd", "--json"]) == 0
    assert {row["caption"] for row in json.loads(capsys.readouterr().out)["top"]} <= {LEFT, RIGHT}
    assert main(["check", project]) == 0
    assert f"{N} images" in capsys.readouterr().out


def test_captions_that_are_cut_are_counted(xl: GenerationAudit, tmp_path: Path) -> None:
    folder = changed(xl, tmp_path / "long")
    rows = pd.read_parquet(folder / "train.parquet")
    rows.loc[[1, 4], "caption"] = "a " * 30
    rows.to_parquet(folder / "train.parquet")
    titles = [problem.title for problem in check_generation(folder).problems]
    assert titles == [f"2 of {N} captions have more than the 12 tokens that are read."]


def test_a_transformer_saved_under_its_old_name_is_the_same_model(sigma: GenerationAudit, tmp_path: Path) -> None:
    folder = changed(sigma, tmp_path / "old")
    _settings(folder / "model" / "transformer" / "config.json", _class_name="Transformer2DModel")
    again = open_generation_audit(folder).model
    assert type(again.module) is type(sigma.model.module)
    assert again.condition == "text"


@pytest.mark.parametrize("audit", ["xl", "sigma"], indirect=True)
def test_attention_to_the_prompt_alone_may_move(audit: GenerationAudit) -> None:
    method = method_named("diagonal", parameters="*attn2.to_k*,*attn2.to_v*", **FEW)
    (found,) = audit.trace([audit.picture("train:row-3")], method)
    assert found.loss_after > found.loss_before


def test_weights_in_half_precision_are_run_in_single(xl: GenerationAudit, tmp_path: Path) -> None:
    from diffusers import DiffusionPipeline

    folder = changed(xl, tmp_path / "half")
    pipeline = DiffusionPipeline.from_pretrained(folder / "model", torch_dtype=torch.float16)
    shutil.rmtree(folder / "model")
    pipeline.save_pretrained(folder / "model", safe_serialization=True)
    audit = open_generation_audit(folder)
    assert audit.place(AtOnce()).samples.dtype == torch.float32
    (one,), (two,) = (each.trace([each.picture("train:row-3")], method_named("sgd", **FEW)) for each in (audit, xl))
    np.testing.assert_allclose(one.scores.base_loss, two.scores.base_loss, rtol=1e-2)  # the weights were rounded


def test_what_is_missing_or_does_not_belong_is_one_sentence(
    xl: GenerationAudit, sigma: GenerationAudit, tmp_path: Path
) -> None:
    one = changed(xl, tmp_path / "second")
    shutil.rmtree(one / "model" / "text_encoder_2")
    refuse(one, "has no text_encoder_2")
    two = changed(xl, tmp_path / "image")
    _settings(two / "model" / "unet" / "config.json", addition_embed_type="image", encoder_hid_dim_type="image_proj")
    refuse(two, "told more than a prompt|cannot be loaded")
    refuse(write_xl(tmp_path / "wide", projected=8), "56 numbers are told and the denoiser takes 54")
    four = changed(xl, tmp_path / "swapped")
    _settings(four / "model" / "text_encoder_2" / "config.json", architectures=["CLIPTextModel"])
    refuse(four, "text_encoder_2: a text encoder of kind CLIPTextModel cannot be used")
    five = changed(sigma, tmp_path / "clip")
    shutil.rmtree(five / "model" / "text_encoder")
    shutil.copytree(xl.project.root / "model" / "text_encoder", five / "model" / "text_encoder")
    refuse(five, "text encoder of kind CLIPTextModel cannot be used")
    six = changed(xl, tmp_path / "tiny")
    _settings(six / "model" / "vae" / "config.json", _class_name="AutoencoderTiny")
    refuse(six, "an autoencoder of kind AutoencoderTiny cannot be used")
    for kind in ("SD3Transformer2DModel", "FluxTransformer2DModel", "HunyuanDiT2DModel"):
        other = changed(sigma, tmp_path / kind)
        _settings(other / "model" / "transformer" / "config.json", _class_name=kind)
        refuse(other, f"a denoiser of kind {kind} cannot be traced")


def _settings(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
