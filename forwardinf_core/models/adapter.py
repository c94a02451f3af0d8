"""Models of kind ``adapter``: a Python file with ``build_model()`` and, if needed, ``loss(model, batch)``.

The file is code, so it runs only where the person who started the program allowed it.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from forwardinf_core.errors import CodeRefusedError, ModelError
from forwardinf_core.influence.objective import Batch, Classification
from forwardinf_core.models.parts import ModelParts, stated_preprocessing
from forwardinf_core.models.source import ModelSource
from forwardinf_core.models.weights import load_into, load_weights

Loss = Callable[[Callable[..., Tensor], Batch], Tensor]
TINY = 1e-30  # below it a loss counts as 0 and has no logarithm


class AdapterClassification(Classification):
    """Classification with the adapter's own per-row loss, which sees the model's outputs and nothing else of it."""

    def __init__(self, loss: Loss, origin: str) -> None:
        super().__init__()
        self._loss = loss
        self._origin = origin

    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        loss = self._loss(lambda *_args, **_kwargs: outputs, batch)
        if not isinstance(loss, Tensor) or loss.shape != (len(outputs),):
            found = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise ModelError(
                f"loss(model, batch) in {self._origin} returned {found}.",
                hint=f"Expected one loss a row, shape ({len(outputs)},): use reduction='none'.",
            )
        return loss

    def unsaturated_losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the logarithm of the loss: the same direction, of useful size where the row is fitted."""
        return self.losses(outputs, batch).clamp_min(TINY).log()

    def loss_changes(self, outputs: Tensor, change: Tensor, batch: Batch) -> Tensor:
        """Return the difference of the two losses, computed in float64: the form of the loss is not known."""
        before, after = outputs.double(), outputs.double() + change.double()
        return (self.losses(after, batch) - self.losses(before, batch)).to(outputs.dtype)

    def output_gradients(self, outputs: Tensor, batch: Batch) -> Tensor:
        gradient: Tensor = torch.func.grad(lambda values: self.losses(values, batch).sum())(outputs)
        return gradient


def load_adapter(source: ModelSource, root: Path, *, allow_code: bool) -> ModelParts:
    """Run the adapter and return its model. Raises ModelError without permission, and on every mistake in the file."""
    path = root / source.path
    if not path.is_file():
        raise ModelError(f"There is no adapter file {source.path}.", hint=f"Looked for {path}.")
    if not allow_code:
        raise CodeRefusedError(
            f"The model is an adapter: {source.path} is Python code, and running code was not allowed.",
            hint="Read the file; if you trust it, start again with --allow-code or FORWARDINF_ALLOW_CODE=1.",
        )
    adapter = _run(path)
    build = getattr(adapter, "build_model", None)
    if not callable(build):
        raise ModelError(f"{path.name} has no function build_model().", hint="It must return a torch.nn.Module.")
    module = _called(build, path.name)
    if source.weights is not None:
        load_into(module, load_weights(root / source.weights), source.weights)
    loss = getattr(adapter, "loss", None)
    assert source.classes is not None  # the schema requires these of an adapter
    return ModelParts(
        module=module,
        objective=Classification() if loss is None else AdapterClassification(loss, path.name),
        inputs=stated_preprocessing(source),
        classes=source.classes,
        definition=path.read_text(encoding="utf-8"),
        origin=source.weights or path.name,
    )


def _run(path: Path) -> ModuleType:
    """Execute the file, with its own folder importable meanwhile, as Python does for a script."""
    spec = importlib.util.spec_from_file_location("forwardinf_adapter", path)
    assert spec is not None
    assert spec.loader is not None
    adapter = importlib.util.module_from_spec(spec)
    before = set(sys.modules)
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(adapter)
    except Exception as error:  # whatever the user's code raises is theirs to mend
        raise ModelError(f"{path.name} cannot be run: {_line(error)}.", hint=f"Try: python {path}") from error
    finally:
        sys.path.remove(str(path.parent))
        for name in set(sys.modules) - before:  # another project's adapter may have files of the same names
            if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == path.parent:
                del sys.modules[name]
    return adapter


def _called(build: Callable[[], object], name: str) -> nn.Module:
    try:
        module = build()
    except Exception as error:
        raise ModelError(
            f"build_model() in {name} failed: {_line(error)}.", hint="It is called without arguments."
        ) from error
    if not isinstance(module, nn.Module):
        raise ModelError(
            f"build_model() in {name} returned {type(module).__name__}.", hint="Expected a torch.nn.Module."
        )
    return module


def _line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
