"""Preprocessing: what the model gets, what a person is shown of it, and equality with the library's own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from forwardinf_core.errors import ModelError
from forwardinf_core.models.preprocessing import (
    PixelPreprocessing,
    TransformersPreprocessing,
    load_preprocessing,
    save_preprocessing,
)

GREY = PixelPreprocessing(8, 1, (0.5,), (0.25,))
COLOUR = PixelPreprocessing(16, 3, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_an_image_of_the_right_size_keeps_its_very_pixels() -> None:
    image = noise(16, 16)
    assert np.array_equal(COLOUR.pixels([image])[0].permute(1, 2, 0), image)
    assert np.array_equal(COLOUR.shown(image), image)


def test_values_are_normalised_by_channel() -> None:
    image = Image.new("RGB", (16, 16), (0, 255, 51))
    values = COLOUR([image])[0, :, 0, 0]
    expected = torch.tensor([(0 - 0.4) / 0.2, (1 - 0.5) / 0.25, (0.2 - 0.6) / 0.3])
    torch.testing.assert_close(values, expected, rtol=1e-6, atol=1e-6)


def test_the_two_steps_are_the_whole_and_leave_the_pixels_alone() -> None:
    pixels = COLOUR.pixels([noise(20, 30), noise(16, 16)])
    before = pixels.clone()
    assert pixels.dtype == torch.uint8
    assert pixels.shape == (2, 3, 16, 16)
    assert torch.equal(COLOUR.normalise(pixels), COLOUR([noise(20, 30), noise(16, 16)]))
    assert torch.equal(pixels, before)


def test_grey_and_colour_images_meet_the_channels_of_the_model() -> None:
    assert GREY([noise(8, 8)]).shape == (1, 1, 8, 8)
    assert GREY.shown(noise(8, 8)).mode == "L"
    colour = COLOUR.pixels([noise(16, 16).convert("L")])[0]
    assert torch.equal(colour[0], colour[2])


def test_no_images_give_an_empty_batch() -> None:
    assert COLOUR([]).shape == (0, 3, 16, 16)


def test_a_wide_image_shows_its_middle_undistorted() -> None:
    image = Image.new("L", (24, 8), 0)
    image.paste(255, (8, 0, 16, 8))
    assert (GREY.pixels([image]) == 255).all()


def test_a_fine_pattern_is_averaged_when_reduced() -> None:
    board = np.indices((64, 64)).sum(axis=0) % 2 * 255
    inner = GREY.pixels([Image.fromarray(board.astype(np.uint8))])[0, 0, 1:-1, 1:-1]
    assert ((inner > 120) & (inner < 135)).all()


def test_an_extremely_long_image_needs_no_extreme_memory() -> None:
    assert GREY.pixels([Image.new("L", (1_000_000, 1), 7)]).unique().tolist() == [7]


def test_settings_survive_the_file(tmp_path: Path) -> None:
    save_preprocessing(COLOUR, tmp_path)
    assert load_preprocessing(tmp_path) == COLOUR


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"channels": 4}, "4 input channels"),
        ({"size": 0}, "size is 0"),
        ({"mean": [0.5]}, "mean is"),
        ({"std": [0.0, 0.1, 0.1]}, "std is"),
        ({"std": [1, 1, "much"]}, "wrong kind"),
        ({"crop": 3}, "entries"),
    ],
)
def test_wrong_settings_are_answered_with_the_value(tmp_path: Path, change: dict[str, object], words: str) -> None:
    (tmp_path / "preprocessing.json").write_text(json.dumps({**COLOUR.to_dict(), **change}))
    with pytest.raises(ModelError, match=words):
        load_preprocessing(tmp_path)


def test_a_folder_without_settings_and_broken_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has neither"):
        load_preprocessing(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"image_processor_type": "NoSuchProcessor"}')
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_preprocessing(tmp_path)
    (tmp_path / "preprocessing.json").write_text("{")
    with pytest.raises(ModelError, match="not valid JSON"):
        load_preprocessing(tmp_path)


PROCESSORS = {
    "ViT": ("ViTImageProcessorPil", {"size": {"height": 24, "width": 24}}),
    "CLIP": (
        "CLIPImageProcessorPil",
        {"size": {"shortest_edge": 24}, "crop_size": {"height": 20, "width": 20}},
    ),
    "ConvNext": ("ConvNextImageProcessorPil", {"size": {"shortest_edge": 24}, "crop_pct": 0.8}),
    "EfficientNet": ("EfficientNetImageProcessorPil", {"size": {"height": 24, "width": 24}, "rescale_offset": True}),
    "MobileViT": (
        "MobileViTImageProcessorPil",
        {"size": {"shortest_edge": 24}, "crop_size": {"height": 20, "width": 20}},
    ),
    "grey ViT": (
        "ViTImageProcessorPil",
        {"size": {"height": 24, "width": 24}, "image_mean": [0.1], "image_std": [0.3]},
    ),
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_a_saved_processor_gives_bit_for_bit_what_the_library_gives(tmp_path: Path, name: str) -> None:
    kind, options = PROCESSORS[name]
    processor = getattr(transformers, kind)(**options)
    processor.save_pretrained(tmp_path)
    ours = load_preprocessing(tmp_path)
    assert isinstance(ours, TransformersPreprocessing)
    pictures = [noise(40, 30), noise(9, 33, seed=1), noise(24, 24, seed=2)]
    if name == "grey ViT":
        pictures = [picture.convert("L") for picture in pictures]
    expected = torch.cat([processor([picture], return_tensors="pt")["pixel_values"] for picture in pictures])
    assert torch.equal(ours(pictures), expected.float())


@pytest.mark.parametrize("name", ["ViT", "MobileViT"])
def test_what_is_shown_has_the_colours_of_the_picture(name: str) -> None:
    kind, options = PROCESSORS[name]
    ours = TransformersPreprocessing(getattr(transformers, kind)(**options))
    shown = ours.shown(Image.new("RGB", (40, 30), (250, 100, 10)))
    assert shown.getpixel((3, 3)) == (250, 100, 10)


@pytest.mark.parametrize("kind", ["DetrImageProcessorPil", "Owlv2ImageProcessorPil", "Pix2StructImageProcessorPil"])
def test_a_processor_that_does_more_is_refused_with_what_to_do(kind: str) -> None:
    with pytest.raises(ModelError, match=f"{kind} cannot be used") as error:
        TransformersPreprocessing(getattr(transformers, kind)())
    assert "project.yaml" in error.value.hint
