"""The model as every audit sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image
from torch import Tensor, nn

from forwardinf_core.datasets.rows import Content
from forwardinf_core.errors import ModelError
from forwardinf_core.influence.objective import Objective
from forwardinf_core.models.text_encoding import TextEncoding


class Preprocessing(Protocol):
    """Turns decoded images into the tensor the model was trained on, one and the same everywhere."""

    def pixels(self, images: Sequence[Image.Image]) -> Tensor:
        """Return (n, channels, height, width) uint8: everything that moves or mixes pixels, so that it can be kept."""
        ...

    def normalise(self, pixels: Tensor) -> Tensor:
        """Return float32 of the same shape: a function of each value and its channel alone."""
        ...

    def __call__(self, images: Sequence[Image.Image]) -> Tensor:
        """Return (n, channels, height, width) float32: both steps."""
        ...

    def shown(self, image: Image.Image) -> Image.Image:
        """Return the image as the model sees it (size and colour mode), before normalisation."""
        ...


Inputs = Preprocessing | TextEncoding
"""What turns the content of rows into what a model reads."""


@dataclass(frozen=True)
class AuditModel:
    """A trained model ready to be audited. ``module`` is in eval mode and is never changed.

    ``head`` is the name of the last linear layer, ``tail`` the module names that the tail step moves (last block and
    head); both None where the model has none that could be found or was declared. ``fingerprint`` is a SHA-256 over
    weights and configuration. ``classes`` are the names in output order.
    """

    module: nn.Module
    objective: Objective
    inputs: Inputs
    classes: tuple[str, ...]
    head: str | None
    tail: tuple[str, ...] | None
    fingerprint: str
    kind: str

    @property
    def content(self) -> Content:
        """Say what the rows are that the model reads."""
        return "text" if isinstance(self.inputs, TextEncoding) else "image"

    @property
    def preprocessing(self) -> Preprocessing:
        """Return how images reach the model. Raises ModelError where it reads none."""
        if isinstance(self.inputs, TextEncoding):
            raise ModelError("This model reads texts, and this needs one that sees images.")
        return self.inputs

    @property
    def encoding(self) -> TextEncoding:
        """Return how texts reach the model. Raises ModelError where it reads none."""
        if not isinstance(self.inputs, TextEncoding):
            raise ModelError("This model sees images, and this needs one that reads texts.")
        return self.inputs
