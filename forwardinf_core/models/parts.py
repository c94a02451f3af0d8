"""What every loader hands over, and the fingerprint made of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from forwardinf_core.datasets.rows import Content
from forwardinf_core.influence.objective import Objective
from forwardinf_core.models.preprocessing import PixelPreprocessing, TransformersPreprocessing
from forwardinf_core.models.source import ModelSource
from forwardinf_core.models.text_encoding import TextEncoding


@dataclass(frozen=True)
class ModelParts:
    """A loaded model before it was tried out.

    ``definition`` is what makes the model besides its weights (configuration, preprocessing, adapter code), as text;
    it enters the fingerprint. ``origin`` names the file or folder in errors.
    """

    module: nn.Module
    objective: Objective
    inputs: PixelPreprocessing | TransformersPreprocessing | TextEncoding
    classes: tuple[str, ...]
    definition: str
    origin: str
    head: str | None = None
    tail: tuple[str, ...] | None = None

    @property
    def content(self) -> Content:
        """Say what the rows are that the model reads."""
        return "text" if isinstance(self.inputs, TextEncoding) else "image"


def stated_preprocessing(source: ModelSource) -> PixelPreprocessing:
    """Return the preprocessing that project.yaml states; it must state mean, std and size."""
    assert source.mean is not None
    assert source.std is not None
    assert source.size is not None
    return PixelPreprocessing(size=source.size, channels=len(source.mean), mean=source.mean, std=source.std)


def fingerprint(state: Mapping[str, Tensor], *texts: str) -> str:
    """Return the SHA-256 over all tensors (name, dtype, shape, bytes; by name) and the texts, in hexadecimal."""
    digest = hashlib.sha256()
    for text in texts:
        content = text.encode()
        digest.update(f"{len(content)}:".encode() + content)
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(f"{name}:{value.dtype}:{tuple(value.shape)}:".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
