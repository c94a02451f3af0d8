r"""What a picture holds of some hundred small patches of its kind: features without training a network.

Patches are cut at random, set to mean 0 and spread 1, whitened, and compared with every place of an image; a two-sided
soft threshold keeps clear matches, which are averaged over a grid (Coates, Ng, Lee 2011, "An analysis of single-layer
networks in unsupervised feature learning"). Labels play no part, so a wrong one cannot be learnt by heart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from forwardinf_core.influence.network import slices

PATCHES = 150
SIDE, SMALLEST_SIDE = 6, 3  # pixels of a patch in an image of 32, and in the smallest
GRID = 4
THRESHOLD = 1.0  # in units of the whitened patches
SOFTENED = 100.0  # variance of a patch, in squared grey levels, below which it counts as flat
WHITENING = 0.1  # added to the eigenvalues, so that noise is not blown up
SAMPLED_IMAGES, SAMPLED_PATCHES = 1_000, 30_000
BATCH = 50


@dataclass(frozen=True)
class Dictionary:
    """Patches to compare images with, as a convolution."""

    kernels: Tensor  # (count, channels, side, side)
    offsets: Tensor  # (1, count, 1, 1)

    @classmethod
    def of(cls, pixels: Tensor, *, count: int, seed: int) -> Dictionary:
        """Draw patches from images (n, channels, size, size) bytes."""
        side = max(SMALLEST_SIDE, min(SIDE, pixels.shape[3] * SIDE // 32))
        return cls(*_drawn(pixels, side, count, torch.Generator().manual_seed(seed)))

    def matches(self, images: Tensor, grid: int) -> Tensor:
        """Return (n, 2 · count · grid²): how clearly each patch, and its negative, is met in each cell of a grid.

        ``images`` (n, channels, size, size) float32, 0 to 255.
        """
        side = self.kernels.shape[3]
        mean = F.avg_pool2d(images.mean(1, keepdim=True), side, 1)
        variance = F.avg_pool2d(images.square().mean(1, keepdim=True), side, 1) - mean.square()
        matched = F.conv2d(images, self.kernels) * (variance.clamp_min(0) + SOFTENED).rsqrt()
        matched = matched + self.offsets
        pooled = [
            F.adaptive_avg_pool2d(F.relu(sign * matched - THRESHOLD), grid).flatten(1).sqrt() for sign in (1.0, -1.0)
        ]
        return torch.cat(pooled, 1)


def patch_features(
    pixels: Tensor, *, seed: int, report: Callable[[int, int], None] = lambda _done, _total: None
) -> Tensor:
    """Return (n, 32 · PATCHES) features of (n, channels, size, size) bytes, each with mean 0 and spread 1.

    Mirrored images are averaged in for colour only: a mirrored digit is another digit.
    """
    dictionary = Dictionary.of(pixels, count=PATCHES, seed=seed)
    mirrored = pixels.shape[1] == 3
    found = []
    with torch.inference_mode():
        for start, stop in slices(len(pixels), BATCH):
            images = pixels[start:stop].float().contiguous(memory_format=torch.channels_last)
            features = dictionary.matches(images, GRID)
            if mirrored:
                features = (features + dictionary.matches(images.flip(3), GRID)) / 2
            found.append(features)
            report(stop, len(pixels))
    features = torch.cat(found)
    spread, mean = torch.std_mean(features, 0)
    return features.sub_(mean).div_(spread + 1e-3)


def _drawn(pixels: Tensor, side: int, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return convolution kernels (count, channels, side, side) and offsets: comparison with whitened patches."""
    channels = pixels.shape[1]
    chosen = torch.randperm(len(pixels), generator=generator)[:SAMPLED_IMAGES]
    patches = F.unfold(pixels[chosen].float(), side).transpose(1, 2).flatten(0, 1)
    patches = patches[torch.randperm(len(patches), generator=generator)[:SAMPLED_PATCHES]]
    patches = patches - patches.mean(1, keepdim=True)
    patches = patches / (patches.square().mean(1, keepdim=True) + SOFTENED).sqrt()
    mean = patches.mean(0)
    values, vectors = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
    whitening = vectors @ torch.diag((values.clamp_min(0) + WHITENING).rsqrt()) @ vectors.T
    white = (patches - mean) @ whitening
    # Flat patches are nearly zero: their direction would be noise.
    strong = torch.nonzero(white.norm(dim=1) > 0.5 * white.norm(dim=1).mean()).flatten()
    words = F.normalize(white[strong[torch.randperm(len(strong), generator=generator)[:count]]], dim=1)
    projection = whitening @ words.T  # (d, count)
    offsets = -(mean @ projection)
    projection = projection - projection.mean(0)  # takes the mean of each patch away within the convolution
    kernels = projection.T.reshape(len(words), channels, side, side)
    return kernels.contiguous(memory_format=torch.channels_last), offsets.reshape(1, -1, 1, 1)
