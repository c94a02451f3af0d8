"""What tracing a diffusion model keeps on disk, made once per model and rows: encoded images, outputs, features.

Encoded images are what the denoiser is trained on; the outputs of the unchanged model belong to the draws they were
made with (sample id, draw number, seed), so outputs of other draws are refused by their binding, never mixed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file, save
from torch import Tensor, nn

from forwardinf_core.audits.context import Context
from forwardinf_core.audits.generation.captions import read_captions
from forwardinf_core.audits.generation.methods import Method
from forwardinf_core.datasets.rows import ImageRows
from forwardinf_core.errors import DataError, ModelError
from forwardinf_core.influence.curvature.base import Curvature
from forwardinf_core.influence.curvature.diagonal import DiagonalCurvature, DiagonalFit
from forwardinf_core.influence.curvature.ekfac import EigenvalueFit, EkfacCurvature, FactorFit
from forwardinf_core.influence.curvature.fitting import Fit
from forwardinf_core.influence.diffusion import DrawRows, Draws, Entries, Shared
from forwardinf_core.influence.graph import GraphNetwork, whole_graph
from forwardinf_core.influence.network import FullNetwork, Network, Parameters, RestrictedNetwork, Rows, slices
from forwardinf_core.influence.objective import Batch
from forwardinf_core.models.denoiser import DiffusionModel
from forwardinf_core.store.arrays import ArrayWriter, Layout, is_complete, open_tensor
from forwardinf_core.store.binding import Binding
from forwardinf_core.store.files import make_folder, sha256, write_bytes

BATCH = 100  # draws of one forward pass
BLOCK = 1_000  # draws, or images, of one block on disk; a multiple of BATCH
FITTED = "fitted.safetensors"
SAVE_EVERY = 10  # batches between two saved states of a fit
FIT_SEED = 1  # its draws are not those that rows are scored on
FIT_DRAWS = 2  # noise levels each image is looked at while a curvature is fitted
Fitted = TypeVar("Fitted")
FEATURE_LEVEL = 0.1  # share of the schedule at which features are read: most of the image is still there


class StoredCurvature(Curvature, Protocol):
    """A curvature that can be written."""

    def tensors(self) -> Parameters: ...


@dataclass
class Opened:
    """What a process has open, shared by its threads."""

    curvatures: dict[str, Curvature] = field(default_factory=dict)
    graph: GraphNetwork | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)


@dataclass(frozen=True)
class Place:
    """A diffusion model, its training rows, where caches lie, what is open already, and the job at work."""

    model: DiffusionModel
    train: ImageRows
    audit_dir: Path
    context: Context
    opened: Opened
    captions: Sequence[tuple[str, ...]] = ()  # of the training rows, empty where the model takes none
    mirrors: bool = False  # the model was trained on pictures mirrored at random, and draws are of both

    @cached_property
    def prints(self) -> dict[str, str]:
        """Fingerprints of what answers are made from: model, rows, captions where it is told them, and mirroring."""
        found = {"model": self.model.fingerprint, "train": self.train.fingerprint}
        if self.captions:
            found["captions"] = sha256("\x00".join("\x01".join(each) for each in self.captions).encode())
        return {**found, "mirrors": "at random"} if self.mirrors else found

    @cached_property
    def samples(self) -> Tensor:
        """Return the training images as the denoiser takes them, (n, c, h, w), encoded once and memory-mapped."""
        return self._encoded("samples", lambda image: image)

    @cached_property
    def mirrored(self) -> Tensor | None:
        """Return the same of the images mirrored left for right, where the model was trained on those too."""
        return self._encoded("mirrored", ImageOps.mirror) if self.mirrors else None

    def _encoded(self, name: Literal["samples", "mirrored"], turned: Callable[[Image.Image], Image.Image]) -> Tensor:
        bound = self._binding(name)
        folder = self._folder(name, bound)
        layout = Layout((len(self.train), *self.model.codec.shape), "float32", BLOCK)
        with ArrayWriter(folder, layout, bound) as writer:
            for start, stop in writer.missing():
                images = [turned(self.train.image(position)) for position in range(start, stop)]
                writer.write(start, self.model.codec.encode(images))
                self.context.report(stop, len(self.train), "Reading the training images")
        return open_tensor(folder, bound)

    @cached_property
    def conditions(self) -> Mapping[str, Entries]:
        """Return what conditions the denoiser, one entry a training row. Raises DataError where a label is missing."""
        if self.model.prompts is not None:
            said = self.model.prompts.numbers()
            numbers = {name: Shared.by_all(value, len(self.train)) for name, value in said.items()}
            return {**self.states, **numbers}
        if self.model.condition != "class":
            return {}
        labels = torch.from_numpy(self.train.labels.copy())
        if (labels < 0).any():
            if self.model.null_label is None:
                raise DataError(
                    f"{int((labels < 0).sum())} training rows have no class, and the model needs one.",
                    hint="Give them a class or leave them out.",
                )
            labels = torch.where(labels < 0, int(self.model.null_label), labels)
        return {"label": labels}

    @cached_property
    def states(self) -> Mapping[str, Shared]:
        """Return what the text encoders make of every row's caption, each caption read once and memory-mapped."""
        assert self.model.prompts is not None

        def keeping(name: str, depends: dict[str, str]) -> tuple[Path, Binding]:
            bound = self._binding(name, **depends)
            return self._folder(name, bound), bound

        return read_captions(self.model.prompts, self.captions, keeping, self.context)

    def rows(self, draws: Draws) -> DrawRows:
        """Return the draws of all training rows."""
        samples, mirrored = self.samples, self.mirrored
        return DrawRows(self.train.ids, samples, self.conditions, draws, self.model.n_timesteps, mirrored)

    def network(self, method: Method) -> Network:
        """Return the denoiser as a function of what the method may move."""
        if method.parameters is None:
            return self.full
        if method.step == "ekfac":
            raise ModelError(
                "EK-FAC cannot be limited to some parameters.", hint="Use diagonal, sgd or adam with a name filter."
            )
        return RestrictedNetwork(self.full, [pattern.strip() for pattern in method.parameters.split(",")])

    @cached_property
    def full(self) -> FullNetwork:
        """Return the whole module."""
        with torch.inference_mode(False):  # gradients flow through its tensors, whoever asks first
            return FullNetwork(self.model.module, self.model.objective)

    def graph(self) -> GraphNetwork:
        """Return the whole denoiser as a graph, exported once."""
        with self.opened.lock:
            if self.opened.graph is None:
                example = self.rows(Draws(2)).batch(0, 2)
                self.opened.graph = whole_graph(self.model.module, self.model.objective, example)
            return self.opened.graph

    def base_outputs(self, draws: Draws) -> Tensor:
        """Return the outputs of the unchanged model for all draws, (n · draws, c, h, w), memory-mapped."""
        bound = self._binding("denoised", draws=draws.count, seed=draws.seed)
        folder, rows = self._folder("denoised", bound), self.rows(draws)
        layout = Layout((len(rows), *self.model.codec.shape), "float32", BLOCK)
        with ArrayWriter(folder, layout, bound) as writer, torch.inference_mode():
            for start, stop in writer.missing():
                parts = [
                    self.full.outputs({}, rows.batch(at, min(at + BATCH, stop))) for at in range(start, stop, BATCH)
                ]
                outputs = torch.cat(parts)
                _require_finite(outputs, rows, start)
                writer.write(start, outputs)
                self.context.report(stop, len(rows), "Running the unchanged model")
        return open_tensor(folder, bound)

    def features(self) -> Tensor:
        """Return the denoiser's own description of every training image, (n, channels), from its middle block."""
        bound = self._binding("features", level=FEATURE_LEVEL)
        folder = self._folder("features", bound)
        one = torch.arange(1)
        first = self.features_of(self.samples[one], {name: value[one] for name, value in self.conditions.items()})
        with ArrayWriter(folder, Layout((len(self.train), first.shape[1]), "float32", BLOCK), bound) as writer:
            for start, stop in writer.missing():
                parts = []
                for low, high in slices(stop - start, BATCH):
                    chosen = torch.arange(start + low, start + high)
                    condition = {name: value[chosen] for name, value in self.conditions.items()}
                    parts.append(self.features_of(self.samples[chosen], condition))
                writer.write(start, torch.cat(parts))
                self.context.report(stop, len(self.train), "Describing the training images")
        return open_tensor(folder, bound)

    @torch.inference_mode()
    def features_of(self, samples: Tensor, condition: Batch) -> Tensor:
        """Return descriptions (n, channels): the middle block's activations at one low noise level, noise-free."""
        timestep = int(FEATURE_LEVEL * self.model.n_timesteps)
        batch = {
            "x": samples.float(),
            "t": torch.full((len(samples),), timestep),
            "noise": torch.zeros(samples.shape),
            **condition,
        }
        with _recorded(self.model.module) as seen:
            self.model.objective.outputs(self.model.module, batch)
        return seen[0].flatten(2).mean(2) if seen[0].ndim == 4 else seen[0].flatten(1)

    def curvature(self, method: Method) -> Curvature | None:
        """Return the curvature a method needs, fitted once and kept on disk; None where it needs none."""
        if method.step not in ("ekfac", "diagonal"):
            return None
        bound = self._binding(f"curvature-{method.step}", draws=FIT_DRAWS)
        key = bound.key()
        with self.opened.lock:
            if key not in self.opened.curvatures:
                self.opened.curvatures[key] = self._curvature(method, bound)
            found = self.opened.curvatures[key]
        if isinstance(found, DiagonalCurvature):  # entries do not depend on what else moves
            return DiagonalCurvature({name: found.diagonal[name] for name in self.network(method).parameters})
        return found

    def has(self, kind: Literal["samples", "features"]) -> bool:
        """Say whether the encoded images, or their features, are on disk."""
        bound = self._binding("samples") if kind == "samples" else self._binding("features", level=FEATURE_LEVEL)
        return is_complete(self._folder(kind, bound), bound)

    def has_outputs(self, draws: Draws) -> bool:
        """Say whether the unchanged model's outputs of these draws are on disk."""
        bound = self._binding("denoised", draws=draws.count, seed=draws.seed)
        return is_complete(self._folder("denoised", bound), bound)

    def has_curvature(self, method: Method) -> bool:
        """Say whether the method's curvature is on disk."""
        bound = self._binding(f"curvature-{method.step}", draws=FIT_DRAWS)
        return (self._folder("curvature", bound) / FITTED).is_file()

    def _curvature(self, method: Method, bound: Binding) -> Curvature:
        path = self._folder("curvature", bound) / FITTED
        if path.is_file():
            tensors = load_file(path)
            return (EkfacCurvature if method.step == "ekfac" else DiagonalCurvature).from_tensors(tensors)
        rows, prefix = self.rows(Draws(FIT_DRAWS, seed=FIT_SEED)), bound.key()[:12]
        fitted: StoredCurvature
        if method.step == "diagonal":
            fitted = self._fit(f"{prefix}-diagonal", DiagonalFit(self.graph()), rows, "squared gradients")
        else:
            bases = self._fit(f"{prefix}-factors", FactorFit(self.graph()), rows, "directions")
            fitted = self._fit(f"{prefix}-eigenvalues", EigenvalueFit(self.graph(), bases), rows, "strengths")
        make_folder(path.parent)
        write_bytes(path, save({name: value.contiguous() for name, value in fitted.tensors().items()}))
        return fitted

    def _fit(self, name: str, fit: Fit[Fitted], rows: Rows, words: str) -> Fitted:
        chunks, batches = self.context.chunks, list(slices(len(rows), BATCH))
        state, first = fit.start(), 0
        for number in range(len(batches), 0, -1):
            kept = chunks.get(f"{name}-{number:08d}") if number % SAVE_EVERY == 0 else None
            if kept is not None:
                state, first = kept, number
                break
        for number in range(first, len(batches)):
            state = fit.accumulate(state, rows.batch(*batches[number]))
            if (number + 1) % SAVE_EVERY == 0:
                chunks.put(f"{name}-{number + 1:08d}", state)
            self.context.report(number + 1, len(batches), f"Fitting the curvature: {words}")
        return fit.finish(state)

    def _binding(self, kind: str, **options: str | int | float | None) -> Binding:
        return Binding(f"diffusion-{kind}", self.prints, {"batch": BATCH, **options})

    def _folder(self, name: str, bound: Binding) -> Path:
        return self.audit_dir / "caches" / f"{name}-{bound.key()[:16]}"


def _require_finite(outputs: Tensor, rows: DrawRows, start: int) -> None:
    bad = ~torch.isfinite(outputs).flatten(1).all(1)
    if bad.any():
        number = start + int(bad.nonzero()[0])
        sample, draw = divmod(number, rows.draws.count)
        timestep = int(rows.batch(number, number + 1)["t"])
        raise ModelError(
            f"The model's output on the training row {rows.ids[sample]} at timestep {timestep} is not a finite number.",
            hint=f"Check that image, and the model at that noise level (draw {draw}).",
        )


@contextmanager
def _recorded(module: nn.Module) -> Iterator[list[Tensor]]:
    """Record what the middle of a denoiser puts out: its middle block, or the middle one of its transformer blocks."""
    blocks = getattr(module, "transformer_blocks", None)
    middle = getattr(module, "mid_block", None)
    if middle is None and blocks is not None:
        middle = blocks[len(blocks) // 2]
    if middle is None:
        raise ModelError("This denoiser has no middle block to describe images with.", hint="Leave features out.")
    seen: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: object) -> None:
        found = output[0] if isinstance(output, tuple) else output
        assert isinstance(found, Tensor)
        seen.append(found.detach())

    handle = middle.register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()
