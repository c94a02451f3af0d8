"""What two images have in common whatever a model thinks of them: a perceptual hash, a small grey picture, patches.

The grey picture has mean 0 and length 1, so the product of two of them is the correlation of their pixels, which no
change of brightness or contrast touches. The hash is imagehash's DCT hash as ±1, so that a product counts equal bits.
Which small patches are met where tolerates shifts and crops that move pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import imagehash
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from forwardinf_core.audits.patches import Dictionary

GREY_SIDE = 16  # pixels
HASH_SIDE = 8  # bits a side: 64 bits
PATCHED_SIDE, PATCHES, PATCH_GRID, SAMPLED = 32, 64, 4, 500  # pixels; patches; cells a side; images they are drawn from
FLAT = 1e-3  # grey levels of deviation below which a picture is one colour and correlates with nothing


def hashes(images: Sequence[Image.Image]) -> NDArray[np.float32]:
    """Return the perceptual hashes, (n, 64), −1 or +1; the product of two rows is 64 − 2 × differing bits."""
    bits = [imagehash.phash(image, hash_size=HASH_SIDE).hash.ravel() for image in images]
    return np.where(np.reshape(bits, (len(images), HASH_SIDE**2)), 1.0, -1.0).astype(np.float32)


def grey_pictures(images: Sequence[Image.Image]) -> NDArray[np.float32]:
    """Return grey pictures of 16 × 16, (n, 256), each of mean 0 and length 1, or all 0 where it is one colour."""
    small = [image.convert("L").resize((GREY_SIDE, GREY_SIDE), Image.Resampling.BOX) for image in images]
    values = np.asarray([np.asarray(image, dtype=np.float32).ravel() for image in small])
    values = values.reshape(len(images), GREY_SIDE**2)
    values -= values.mean(1, keepdims=True)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return np.where(length > FLAT * GREY_SIDE, values / np.maximum(length, FLAT), 0.0).astype(np.float32)


def dictionary(images: Sequence[Image.Image]) -> Dictionary:
    """Return patches drawn from images."""
    return Dictionary.of(_pixels(images), count=PATCHES, seed=0)


def patches(images: Sequence[Image.Image], found: Dictionary) -> Tensor:
    """Return how clearly each patch is met in each cell of each image, (n, 2,048) where there are 64 patches."""
    with torch.inference_mode():
        pixels = _pixels(images).float().contiguous(memory_format=torch.channels_last)
        return found.matches(pixels, PATCH_GRID)


def _pixels(images: Sequence[Image.Image]) -> Tensor:
    size = (PATCHED_SIDE, PATCHED_SIDE)
    small = [np.asarray(image.convert("RGB").resize(size, Image.Resampling.BILINEAR)) for image in images]
    return torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2)


def mirrored(image: Image.Image) -> Image.Image:
    """Return the image with left and right exchanged."""
    return ImageOps.mirror(image)


def same_pixels(first: Image.Image, second: Image.Image) -> bool:
    """Say whether two images show the same pixels, grey or colour."""
    if first.size != second.size:
        return False
    return first.convert("RGB").tobytes() == second.convert("RGB").tobytes()
