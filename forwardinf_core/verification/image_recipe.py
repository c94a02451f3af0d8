"""The recipe of the built-in image network: trained as ``fit`` trains it, on any subset of some images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from forwardinf_core.influence.network import slices
from forwardinf_core.models.baseline import Baseline, BaselineConfig
from forwardinf_core.models.training import EVALUATION_BATCH, TrainingOptions, train
from forwardinf_core.store.binding import Binding, Option
from forwardinf_core.verification.retraining import Examples, Task


@dataclass(frozen=True)
class Moments:
    """Mean and spread of the bytes per channel, with which pixels are normalised."""

    mean: tuple[float, ...]
    spread: tuple[float, ...]


@dataclass(frozen=True)
class ImageRecipe:
    """A network and how it is trained on any subset of ``rows``; without ``given`` they are normalised by their own."""

    config: BaselineConfig
    options: TrainingOptions  # its seed is replaced by the task's
    rows: Examples
    given: Moments | None = None

    @property
    def n_classes(self) -> int:
        return self.config.n_classes

    @cached_property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and spread per channel, each (1, channels, 1, 1); a spread below one byte counts as one."""
        if self.given is not None:
            mean, spread = (torch.tensor(part).reshape(1, -1, 1, 1) for part in (self.given.mean, self.given.spread))
        else:
            values = self.rows.inputs.double()
            mean, spread = values.mean((0, 2, 3), keepdim=True), values.std((0, 2, 3), correction=0, keepdim=True)
        return mean.float(), spread.float().clamp_min(1.0)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Return float images with mean 0 and spread 1 per channel over all rows."""
        mean, spread = self.moments
        return pixels.float().sub_(mean).div_(spread)

    def fresh(self) -> Baseline:
        """Return an untrained network, its first weights drawn from the running generator."""
        return Baseline(self.config)

    def network(self, task: Task) -> Baseline:
        """Return the network trained for a task. The task's seed decides first weights, order and augmentation."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(task.seed)
            module = self.fresh()
        options, labels = replace(self.options, seed=task.seed), task.labelled(self.rows.labels)
        rows = torch.as_tensor(task.subset)
        train(module, self.rows.inputs, labels, options, normalise=self.normalise, rows=rows)
        return module

    def outputs(self, task: Task, watched: Examples) -> Tensor:
        """Return the outputs (n_watched, n_classes) of the network trained for a task."""
        return outputs_of(self.network(task), watched.inputs, self.normalise)

    def binding(self, kind: str, **more: Examples) -> Binding:
        """Return what results of this recipe depend on, with further images by name."""
        prints = {"rows": self.rows.fingerprint()} | {name: images.fingerprint() for name, images in more.items()}
        options = asdict(self.options)
        del options["seed"]  # each task has its own
        moments: dict[str, Option] = {}
        if self.given is not None:
            moments = {"mean": list(self.given.mean), "spread": list(self.given.spread)}
        return Binding(kind, prints, {"model": asdict(self.config), "training": options, "moments": moments})


@torch.inference_mode()
def outputs_of(module: nn.Module, images: Tensor, normalise: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the module's outputs (n, n_classes) for images as bytes."""
    parts = [module(normalise(images[start:stop])) for start, stop in slices(len(images), EVALUATION_BATCH)]
    return torch.cat(parts).float()
