"""Untrained pipelines of ``diffusers``, small enough for tests, and projects of 24 pictures around them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from PIL import Image

N = 24
SIDES = ("left", "right")
CAPTIONS = [f"{side} side" for side in SIDES]
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def write_dit(folder: Path) -> Path:
    """Write a project with a class-conditional transformer on the latents of an image autoencoder."""
    from diffusers import DDIMScheduler, DiTPipeline, DiTTransformer2DModel

    torch.manual_seed(0)
    transformer = DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        sample_size=8,
        patch_size=2,
        num_embeds_ada_norm=3,
        norm_num_groups=4,
    )
    torch.nn.init.normal_(transformer.proj_out_2.weight, std=0.1)
    pipeline = DiTPipeline(transformer=transformer, vae=autoencoder(), scheduler=schedule(DDIMScheduler))
    pipeline.save_pretrained(folder / "model", safe_serialization=True)
    _write_project(folder, {"classes": ["left", "right", "up"]}, column="label", values=SIDES)
    return folder


def write_text_to_image(folder: Path, *, states: int = 16) -> Path:
    """Write a project with a small Stable Diffusion, told in words, whose text encoder has so many numbers a token."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline
    from transformers import CLIPTextModel

    torch.manual_seed(0)
    unet = conditional_unet(cross_attention_dim=16)
    tokenizer, config = clip(folder / "words", hidden_size=states)
    pipeline = StableDiffusionPipeline(
        vae=autoencoder(),
        text_encoder=CLIPTextModel(config),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=schedule(DDIMScheduler),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder / "model", safe_serialization=True)
    _write_project(folder, {}, column="caption", values=CAPTIONS)
    return folder


def write_xl(folder: Path, *, zeros: bool = True, projected: int = 6) -> Path:
    """Write a project with a small Stable Diffusion XL; ``zeros``: guidance goes away from zeros."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(0)
    unet = conditional_unet(
        cross_attention_dim=16 + 12,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 + 6 * 8,
        transformer_layers_per_block=(1, 2),
        use_linear_projection=True,
    )
    tokenizer, config = clip(folder / "words", hidden_size=16)
    pipeline = StableDiffusionXLPipeline(
        vae=autoencoder(),
        text_encoder=CLIPTextModel(config),
        text_encoder_2=CLIPTextModelWithProjection(clip(folder / "more", hidden_size=12, projection_dim=projected)[1]),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet,
        scheduler=schedule(EulerDiscreteScheduler),
        force_zeros_for_empty_prompt=zeros,
        add_watermarker=False,
    )
    pipeline.save_pretrained(folder / "model", safe_serialization=True)
    _write_project(folder, {}, column="caption", values=CAPTIONS)
    return folder


def write_pixart(folder: Path, *, sizes: bool = False) -> Path:
    """Write a project with a small PixArt-sigma; ``sizes``: a PixArt-alpha that is told the resolution, on 256 pixels.

    The library tells the resolution to denoisers of latents of 128 × 128 alone.
    """
    from diffusers import (
        DPMSolverMultistepScheduler,
        PixArtAlphaPipeline,
        PixArtSigmaPipeline,
        PixArtTransformer2DModel,
    )
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    torch.manual_seed(0)
    transformer = PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        cross_attention_dim=24,
        sample_size=128 if sizes else 8,
        patch_size=32 if sizes else 2,
        caption_channels=16,
        use_additional_conditions=sizes,
    )
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((letter, -3.0) for letter in LETTERS)]
    tokenizer = T5Tokenizer(vocab=pieces, extra_ids=0)
    config = T5Config(
        vocab_size=len(pieces), d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu"
    )
    kind = PixArtAlphaPipeline if sizes else PixArtSigmaPipeline
    pipeline = kind(
        tokenizer=tokenizer,
        text_encoder=T5EncoderModel(config),
        vae=autoencoder(),
        transformer=transformer,
        scheduler=schedule(DPMSolverMultistepScheduler),
    )
    pipeline.save_pretrained(folder / "model", safe_serialization=True)
    _write_project(folder, {}, column="caption", values=CAPTIONS)
    return folder


def conditional_unet(**settings: object):  # imported where it is made
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        attention_head_dim=4,
        norm_num_groups=4,
        **settings,
    )


def clip(kept: Path, *, hidden_size: int, **settings: object):  # imported where it is made
    """Return a tokenizer of single letters and the configuration of a text encoder for it, of twelve tokens."""
    from transformers import CLIPTextConfig, CLIPTokenizer

    vocabulary = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
    kept.mkdir(parents=True)
    (kept / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(vocabulary)}))
    (kept / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer.from_pretrained(kept, model_max_length=12)
    config = CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=hidden_size,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=12,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        **settings,
    )
    return tokenizer, config


def autoencoder():  # imported where it is made
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
    )


def schedule(kind):  # a class of diffusers
    settings = {"clip_sample": False} if kind.__name__ == "DDIMScheduler" else {}
    return kind(num_train_timesteps=100, beta_schedule="linear", **settings)


def _write_project(folder: Path, model: dict[str, object], *, column: str, values: tuple[str, ...] | list[str]) -> None:
    random = np.random.default_rng(0)
    rows = []
    for number in range(N + 4):
        pixels = random.integers(0, 90, (16, 16, 3)).astype(np.uint8)
        pixels[:, 8 * (number % 2) : 8 * (number % 2) + 8] += 150
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        rows.append({"id": f"row-{number}", "image": buffer.getvalue(), column: values[number % 2]})
    pd.DataFrame(rows[:N]).to_parquet(folder / "train.parquet")
    pd.DataFrame(rows[N:]).to_parquet(folder / "test.parquet")
    sets = {split: {"kind": "parquet", "path": f"{split}.parquet"} for split in ("train", "test")}
    config = {"name": "Sides", "task": "diffusion", "model": {"kind": "diffusers", "path": "model/", **model}, **sets}
    (folder / "project.yaml").write_text(yaml.safe_dump(config))
