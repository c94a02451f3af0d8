"""Copies of the user's own rows, altered as copies are altered on their way from one collection into another.

Their origin is known, so they show how well the signals find a copy and how far a confidence can be trusted. The image
of a copy depends on the row's number and the seed alone.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import numpy as np
from PIL import Image, ImageEnhance

Alteration = Callable[[Image.Image, np.random.Generator], Image.Image]


def cropped(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """Return a window of 80 to 95% of each side, enlarged to the old size."""
    width, height = image.size
    share = generator.uniform(0.8, 0.95)
    left, top = generator.uniform(0, width * (1 - share)), generator.uniform(0, height * (1 - share))
    box = (left, top, left + width * share, top + height * share)
    return image.resize(image.size, Image.Resampling.BICUBIC, box=box)


def mirrored(image: Image.Image, _generator: np.random.Generator) -> Image.Image:
    """Return the image with left and right exchanged."""
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def recompressed(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """Return the image after JPEG of low quality."""
    out = BytesIO()
    image.save(out, "JPEG", quality=int(generator.integers(15, 50)))
    return Image.open(BytesIO(out.getvalue())).convert(image.mode)


def recoloured(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """Return the image with other brightness, contrast and colour."""
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhance(image).enhance(float(generator.uniform(0.6, 1.5)))
    return image


def noisy(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """Return the image with noise of 4 to 14 grey levels."""
    values = np.asarray(image, dtype=np.float32)
    noise = generator.normal(0, generator.uniform(4, 14), values.shape)
    return Image.fromarray(np.clip(np.rint(values + noise), 0, 255).astype(np.uint8))


def resampled(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """Return the image reduced to about half its size and enlarged again."""
    share = generator.uniform(0.45, 0.75)
    small = [max(4, round(side * share)) for side in image.size]
    return image.resize((small[0], small[1]), Image.Resampling.BILINEAR).resize(image.size, Image.Resampling.BICUBIC)


ALTERATIONS: dict[str, Alteration] = {
    "cropped": cropped,
    "mirrored": mirrored,
    "recompressed": recompressed,
    "recoloured": recoloured,
    "noisy": noisy,
    "resampled": resampled,
}
SEVERAL = "several"  # crop, colour and compression together, half of the time mirrored
KINDS = (*ALTERATIONS, SEVERAL)


def altered(image: Image.Image, kind: str, generator: np.random.Generator) -> Image.Image:
    """Return an altered copy of an image, same size and mode."""
    if kind != SEVERAL:
        return ALTERATIONS[kind](image, generator)
    if generator.random() < 0.5:
        image = mirrored(image, generator)
    for step in (cropped, recoloured, recompressed):
        image = step(image, generator)
    return image
