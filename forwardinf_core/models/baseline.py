r"""The built-in image classifier that ``fit`` trains when the user has no model: a small residual network.

A 3×3 stem, two residual blocks that halve the size, one residual block that keeps it (the tail, with the head), global
average pooling and one linear layer. BatchNorm throughout. Any image size from 8×8 up, any number of channels.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class BaselineConfig:
    """Shape of the network, saved beside its weights as ``config.json``."""

    n_classes: int
    channels: int = 3
    size: int = 32  # images are resized to size × size
    width: int = (
        32  # channels of the stem, 8 or more to train (oneDNN writes out of bounds below); blocks have 2×, 4×, 4×
    )


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with BatchNorm and a shortcut (He et al. 2015)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + self.shortcut(x))


class Baseline(nn.Module):
    """Logits (n, n_classes) of normalised images (n, channels, size, size)."""

    HEAD = "head"
    TAIL = ("block3", "head")

    def __init__(self, config: BaselineConfig) -> None:
        super().__init__()
        self.config = config
        w = config.width
        self.stem = nn.Sequential(nn.Conv2d(config.channels, w, 3, 1, 1, bias=False), nn.BatchNorm2d(w), nn.ReLU())
        self.block1 = ResidualBlock(w, 2 * w, 2)
        self.block2 = ResidualBlock(2 * w, 4 * w, 2)
        self.block3 = ResidualBlock(4 * w, 4 * w, 1)
        self.head = nn.Linear(4 * w, config.n_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block3(self.block2(self.block1(self.stem(x))))
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)  # (n, 4w)
        logits: Tensor = self.head(x)
        return logits
