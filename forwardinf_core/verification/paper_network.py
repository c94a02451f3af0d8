"""The network of the paper's non-convex verification, and its training: two 5×5 convolutions, no BatchNorm, plain SGD.

Ko et al. 2024, section 3, settings as released: 32 and 64 channels with max-pooling, a layer of 128, SGD 0.01 with
momentum 0.9 and weight decay 1e-3, batches of 64, 10 epochs (20 in colour), pixels / 255.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forwardinf_core.errors import ModelError
from forwardinf_core.influence.network import slices
from forwardinf_core.store.binding import Binding
from forwardinf_core.verification.retraining import Examples, Task

LEARNING_RATE, MOMENTUM, WEIGHT_DECAY, BATCH = 0.01, 0.9, 1e-3, 64
EVALUATION_BATCH = 250
SMALLEST_UNPADDED = 16  # pixels: below, two unpadded 5×5 convolutions leave nothing, and the border is padded


class PaperNetwork(nn.Module):
    """Logits (n, n_classes) of images (n, channels, size, size) with values from 0 to 1."""

    HEAD = "fc2"
    TAIL = ("fc1", "fc2")

    def __init__(self, n_classes: int, channels: int, size: int) -> None:
        super().__init__()
        padding = 2 if size < SMALLEST_UNPADDED else 0
        side = size
        for _ in range(2):
            side = (side + 2 * padding - 4) // 2
        self.conv1 = nn.Conv2d(channels, 32, 5, padding=padding)
        self.conv2 = nn.Conv2d(32, 64, 5, padding=padding)
        self.fc1 = nn.Linear(64 * side * side, 128)
        self.fc2 = nn.Linear(128, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        logits: Tensor = self.fc2(F.relu(self.fc1(x.flatten(1))))
        return logits


@dataclass(frozen=True)
class PaperRecipe:
    """The paper's network trained on any of ``rows``; the seed decides first weights and order."""

    rows: Examples
    n_classes: int
    epochs: int

    def network(self, task: Task) -> PaperNetwork:
        """Return the network trained for a task, in eval mode. Raises ModelError where its loss is no number."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(task.seed)
            module = PaperNetwork(self.n_classes, self.rows.inputs.shape[1], self.rows.inputs.shape[2])
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
        optimiser = torch.optim.SGD(module.parameters(), LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
        subset, labels = torch.as_tensor(task.subset), task.labelled(self.rows.labels)
        generator = torch.Generator().manual_seed(task.seed)
        for epoch in range(self.epochs):
            for batch in torch.split(subset[torch.randperm(len(subset), generator=generator)], BATCH):
                loss = F.cross_entropy(module(scaled(self.rows.inputs[batch])), labels[batch])
                optimiser.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
            if not loss.isfinite():
                raise ModelError(f"Training failed in epoch {epoch + 1}: the loss is {float(loss)}.")
        return module.eval()

    def outputs(self, task: Task, watched: Examples) -> Tensor:
        """Return the outputs (n_watched, n_classes) of the network trained for a task."""
        module = self.network(task)
        with torch.inference_mode():
            parts = [
                module(scaled(watched.inputs[start:stop])) for start, stop in slices(len(watched), EVALUATION_BATCH)
            ]
        return torch.cat(parts)

    def binding(self, kind: str, **more: Examples) -> Binding:
        """Return what results of this recipe depend on, with further images by name."""
        prints = {"rows": self.rows.fingerprint()} | {name: images.fingerprint() for name, images in more.items()}
        options = asdict(self)
        del options["rows"]
        return Binding(kind, prints, {"network": "paper", **options})


def scaled(pixels: Tensor) -> Tensor:
    """Return bytes as floats from 0 to 1, in the memory layout that convolutions are fastest in."""
    return pixels.float().div_(255).contiguous(memory_format=torch.channels_last)
