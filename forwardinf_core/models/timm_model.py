"""Models of kind ``timm``: a folder in the library's own format, or the name of an architecture with weights beside it.

The library is optional; nothing is downloaded.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
from pathlib import Path
from typing import Any

from forwardinf_core.errors import ModelError
from forwardinf_core.influence.objective import Classification
from forwardinf_core.models.parts import ModelParts, stated_preprocessing
from forwardinf_core.models.preprocessing import PixelPreprocessing
from forwardinf_core.models.source import ModelSource
from forwardinf_core.models.weights import load_into, load_weights


def load_timm(source: ModelSource, root: Path) -> ModelParts:
    """Return a timm classifier. Raises ModelError where timm is not installed or the model is incomplete."""
    if importlib.util.find_spec("timm") is None:
        raise ModelError("The model is of kind timm, and timm is not installed.", hint="Install it: pip install timm")
    try:
        timm = importlib.import_module("timm")
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision made for another PyTorch
        raise ModelError("timm is installed but cannot be used.", hint=f"It says: {error}") from error
    folder = root / source.path
    config: dict[str, Any] = _read_config(folder / "config.json") if folder.is_dir() else {"architecture": source.path}
    weights = _weights_file(source, root, folder)
    names = source.classes or tuple(str(name) for name in config.get("label_names", ()))
    if not names:
        raise ModelError(
            f"The names of the classes of {source.path} are not known.", hint="List them as model.classes."
        )
    arguments = {key: value for key, value in config.get("model_args", {}).items() if key != "num_classes"}
    try:
        module = timm.create_model(config["architecture"], pretrained=False, num_classes=len(names), **arguments)
    except (RuntimeError, TypeError, ValueError, KeyError) as error:
        raise ModelError(f"timm cannot build {source.path}.", hint=f"It says: {str(error).splitlines()[0]}") from error
    load_into(module, load_weights(weights), weights.name)
    return ModelParts(
        module=module,
        objective=Classification(),
        inputs=stated_preprocessing(source) if source.mean is not None else _own_preprocessing(config, source.path),
        classes=names,
        definition=json.dumps(config, sort_keys=True),
        origin=weights.name,
    )


def _weights_file(source: ModelSource, root: Path, folder: Path) -> Path:
    if source.weights is not None:
        return root / source.weights
    if folder.is_dir():
        return folder / "model.safetensors"
    raise ModelError(
        f"{source.path} is not a folder of the project, and no weights are named for the architecture of this name.",
        hint="Set model.weights to a safetensors file, or model.path to a folder with config.json.",
    )


def _read_config(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path.parent.name} has no readable config.json.", hint=str(error)) from error
    if not isinstance(content, dict) or not isinstance(content.get("architecture"), str):
        raise ModelError(
            f"{path.parent.name}/config.json names no architecture.",
            hint="Expected a folder that timm saved for the hub.",
        )
    return content


def _own_preprocessing(config: dict[str, Any], path: str) -> PixelPreprocessing:
    own = config.get("pretrained_cfg", {})
    if not all(isinstance(own.get(name), list) for name in ("mean", "std", "input_size")):
        raise ModelError(
            f"How images reach {path} is not known.", hint="Give model.mean, model.std and model.size in project.yaml."
        )
    crop, interpolation = own.get("crop_pct", 1.0), own.get("interpolation", "bilinear")
    if crop != 1.0 or interpolation != "bilinear":  # ours would give other pixels than the model was trained on
        raise ModelError(
            f"{path} takes images cropped to {crop:g} and resized {interpolation}, which is not reproduced here.",
            hint="Give model.mean, model.std and model.size to have the centred square resized bilinearly instead.",
        )
    return PixelPreprocessing(
        size=int(own["input_size"][-1]), channels=len(own["mean"]), mean=tuple(own["mean"]), std=tuple(own["std"])
    )
