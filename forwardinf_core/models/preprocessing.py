"""From decoded images to the tensor a model was trained on, one and the same for training, scoring and display.

Both kinds work in two steps, so that audits can keep a data set as bytes: ``pixels`` (everything that moves or mixes
pixels; uint8) and ``normalise`` (a function of each value and its channel alone; float32).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from forwardinf_core.errors import ModelError

FILE_NAME = "preprocessing.json"
TRANSFORMERS_FILE_NAME = "preprocessor_config.json"
_MODES = {1: "L", 3: "RGB"}  # channels → colour mode


@dataclass(frozen=True, slots=True)
class PixelPreprocessing:
    """The centred square of an image at size × size, then (value / 255 − mean) / std for each channel.

    The shorter side decides: aspect is kept and what overhangs the square is left out. Bilinear with antialiasing;
    an image that already has the size keeps its very pixels. One channel is grey, three are RGB.
    """

    size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.channels not in _MODES:
            raise ModelError(f"A model with {self.channels} input channels is not supported.", hint="Expected 1 or 3.")
        if self.size < 1:
            raise ModelError(f"The image size is {self.size}.", hint="Expected at least 1 pixel.")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.channels or not np.isfinite(values).all():
                raise ModelError(f"{name} is {list(values)}.", hint=f"Expected {self.channels} numbers, one a channel.")
        if min(self.std) <= 0:
            raise ModelError(f"std is {list(self.std)}.", hint="Expected numbers above 0.")

    def pixels(self, images: Sequence[Image.Image]) -> Tensor:
        """Return (n, channels, size, size) uint8."""
        if not images:
            return torch.zeros((0, self.channels, self.size, self.size), dtype=torch.uint8)
        stacked = np.stack([np.asarray(self.shown(image)) for image in images])
        if stacked.ndim == 3:  # grey images have no channel axis
            stacked = stacked[..., None]
        return torch.from_numpy(stacked).permute(0, 3, 1, 2).contiguous()

    def normalise(self, pixels: Tensor) -> Tensor:
        """Return float32 of the same shape, on the device of the input."""
        mean = torch.tensor(self.mean, dtype=torch.float32, device=pixels.device).view(-1, 1, 1)
        std = torch.tensor(self.std, dtype=torch.float32, device=pixels.device).view(-1, 1, 1)
        return pixels.to(torch.float32).div_(255).sub_(mean).div_(std)

    def __call__(self, images: Sequence[Image.Image]) -> Tensor:
        """Return (n, channels, size, size) float32."""
        return self.normalise(self.pixels(images))

    def shown(self, image: Image.Image) -> Image.Image:
        """Return the image as the model sees it, size × size, grey or RGB."""
        coloured = image.convert(_MODES[self.channels])
        if coloured.size == (self.size, self.size):
            return coloured
        side = min(coloured.size)
        left, top = (coloured.width - side) / 2, (coloured.height - side) / 2
        return coloured.resize(
            (self.size, self.size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side)
        )

    def to_dict(self) -> dict[str, int | list[float]]:
        """Return what ``preprocessing.json`` holds."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PixelPreprocessing:
        """Return the preprocessing that ``to_dict`` described. Raises ModelError on a missing, extra or wrong entry."""
        expected = {"size", "channels", "mean", "std"}
        if set(values) != expected:
            raise ModelError(
                f"{FILE_NAME} has the entries {', '.join(sorted(values)) or 'none'}.",
                hint=f"Expected {', '.join(sorted(expected))}.",
            )
        try:
            mean, std = (tuple(float(value) for value in values[name]) for name in ("mean", "std"))
            return cls(int(values["size"]), int(values["channels"]), mean, std)
        except (TypeError, ValueError) as problem:
            raise ModelError(f"{FILE_NAME} holds a value of a wrong kind: {problem}.") from problem


class TransformersPreprocessing:
    """The image processor that a ``transformers`` model brings, on its Pillow implementation.

    Raises ModelError for a processor that does more than move pixels about, rescale and normalise by channel, or that
    gives images of several sizes: what an audit shows and keeps would not be what the model sees.
    """

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        mean = getattr(processor, "image_mean", None)
        self.channels = len(mean) if isinstance(mean, list | tuple) else 3
        if self.channels not in _MODES:
            raise ModelError(
                f"The image processor has {self.channels} channels, which is not supported.", hint="Expected 1 or 3."
            )
        self._raw = {"do_rescale": False, "do_normalize": False}
        if hasattr(processor, "include_top"):  # EfficientNet: a second normalisation under another name
            self._raw["include_top"] = False
        self._is_bgr = bool(getattr(processor, "do_flip_channel_order", False))
        try:
            self._table = self._value_table()
            self._check()
        except (ValueError, TypeError, AttributeError, KeyError, IndexError, RuntimeError) as problem:
            reason = (str(problem).splitlines() or [type(problem).__name__])[0][:200]
            raise self._refused(f"it fails on a plain image ({reason})") from problem

    def pixels(self, images: Sequence[Image.Image]) -> Tensor:
        """Return (n, channels, height, width) uint8: resized, cropped and padded, not rescaled or normalised."""
        found = self._process(images, **self._raw)
        if found.dtype != torch.uint8:
            raise self._refused(f"it gives {found.dtype} pixels")
        return found

    def normalise(self, pixels: Tensor) -> Tensor:
        """Return float32 of the same shape, bit for bit what the processor makes of these values."""
        table = self._table.to(pixels.device)
        return torch.stack([table[channel][pixels[:, channel].int()] for channel in range(self.channels)], dim=1)

    def __call__(self, images: Sequence[Image.Image]) -> Tensor:
        """Return (n, channels, height, width) float32."""
        return self.normalise(self.pixels(images))

    def shown(self, image: Image.Image) -> Image.Image:
        """Return the image as the model sees it, in its size and colour mode, before normalisation."""
        pixels = self.pixels([image])[0].permute(1, 2, 0).numpy()
        if self._is_bgr:
            pixels = np.ascontiguousarray(pixels[:, :, ::-1])
        return Image.fromarray(pixels if self.channels == 3 else pixels[:, :, 0])

    def _process(self, images: Sequence[Image.Image], **options: bool) -> Tensor:
        coloured = [image.convert(_MODES[self.channels]) for image in images]
        output = self._processor(coloured, return_tensors="pt", **options)
        pixels = output.get("pixel_values")
        if not isinstance(pixels, Tensor) or pixels.ndim != 4 or pixels.shape[1] != self.channels:
            raise self._refused("it does not give one picture of fixed size for each image")
        return pixels

    def _value_table(self) -> Tensor:
        """Return (channels, 256): what the processor makes of each pixel value in each channel."""
        ramp = np.tile(np.arange(256, dtype=np.uint8).reshape(16, 16), (self.channels, 1, 1))
        still = {"do_resize": False, "do_center_crop": False, "do_pad": False, "do_convert_rgb": False}
        if self._is_bgr:
            still["do_flip_channel_order"] = False
        output = self._processor([ramp], return_tensors="pt", input_data_format="channels_first", **still)
        table = output.get("pixel_values")
        if not isinstance(table, Tensor) or table.shape != (1, self.channels, 16, 16):
            raise self._refused("it changes the size of a picture even when told not to")
        return table.reshape(self.channels, 256).to(torch.float32)

    def _check(self) -> None:
        """Raise ModelError unless the two steps equal the processor's own output on pictures of two shapes."""
        noise = np.random.default_rng(0).integers(0, 256, (61, 97, 3), dtype=np.uint8)
        probes = [Image.fromarray(noise), Image.fromarray(noise[:40, :40])]
        own = [self._process([probe]) for probe in probes]
        if len({output.shape for output in own}) > 1:
            raise self._refused("it gives images of several sizes")
        if not torch.equal(self(probes), torch.cat(own).to(torch.float32)):
            raise self._refused("it does more than resize, crop, rescale and normalise")

    def _refused(self, reason: str) -> ModelError:
        return ModelError(
            f"The image processor {type(self._processor).__name__} cannot be used: {reason}.",
            hint="Set size, mean and std under model in project.yaml instead.",
        )


def save_preprocessing(preprocessing: PixelPreprocessing, folder: Path) -> None:
    """Write ``preprocessing.json``."""
    (folder / FILE_NAME).write_text(json.dumps(preprocessing.to_dict(), indent=2) + "\n")


def load_preprocessing(folder: Path) -> PixelPreprocessing | TransformersPreprocessing:
    """Return the preprocessing saved in a model's folder: our own file, or that of ``transformers``.

    Raises ModelError if there is neither, or if it cannot be used. Runs no code from the folder.
    """
    own = folder / FILE_NAME
    if own.is_file():
        try:
            values = json.loads(own.read_text())
        except ValueError as problem:
            raise ModelError(f"{FILE_NAME} is not valid JSON: {problem}.") from problem
        if not isinstance(values, dict):
            raise ModelError(f"{FILE_NAME} holds no entries.", hint="Expected size, channels, mean and std.")
        return PixelPreprocessing.from_dict(values)
    if not (folder / TRANSFORMERS_FILE_NAME).is_file():
        raise ModelError(
            f"{folder.name} has neither {FILE_NAME} nor {TRANSFORMERS_FILE_NAME}.",
            hint="Set size, mean and std under model in project.yaml.",
        )
    from transformers import AutoImageProcessor

    try:
        processor = AutoImageProcessor.from_pretrained(
            str(folder), backend="pil", local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, ImportError, TypeError, KeyError) as problem:
        reason = (str(problem).splitlines() or [type(problem).__name__])[0][:200]
        raise ModelError(
            f"The image processor in {folder.name} cannot be loaded.", hint=f"transformers says: {reason}"
        ) from problem
    return TransformersPreprocessing(processor)
