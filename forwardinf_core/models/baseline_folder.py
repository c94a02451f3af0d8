"""Models of kind ``baseline``: the folder that ``fit`` writes (config.json, model.safetensors, preprocessing.json)."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import TypeVar

from safetensors.torch import save_file

from forwardinf_core.errors import ModelError
from forwardinf_core.influence.objective import Classification
from forwardinf_core.models.baseline import Baseline, BaselineConfig
from forwardinf_core.models.denoiser_training import DenoiserTraining
from forwardinf_core.models.parts import ModelParts, stated_preprocessing
from forwardinf_core.models.preprocessing import PixelPreprocessing, load_preprocessing, save_preprocessing
from forwardinf_core.models.source import ModelSource
from forwardinf_core.models.text_training import TextTraining
from forwardinf_core.models.training import TrainingOptions
from forwardinf_core.models.weights import load_into, load_weights

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
TRAINING_NAME = "training.json"

Training = TypeVar("Training", TrainingOptions, TextTraining, DenoiserTraining)


def save_baseline(folder: Path, module: Baseline, classes: tuple[str, ...], preprocessing: PixelPreprocessing) -> None:
    """Write the model into an existing folder. The same weights give the same bytes."""
    config = asdict(module.config) | {"classes": list(classes)}
    (folder / CONFIG_NAME).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    save_preprocessing(preprocessing, folder)
    save_file({name: value.contiguous() for name, value in module.state_dict().items()}, folder / WEIGHTS_NAME)


def save_training(folder: Path, options: TrainingOptions | TextTraining | DenoiserTraining) -> None:
    """Keep how the model was trained, so that it can be retrained alike."""
    (folder / TRAINING_NAME).write_text(json.dumps(asdict(options), indent=2) + "\n", encoding="utf-8")


def load_training(folder: Path, kind: type[Training]) -> Training | None:
    """Return how the model was trained, or None where that was not kept or is of another version."""
    try:
        return kind(**json.loads((folder / TRAINING_NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def load_baseline(source: ModelSource, root: Path) -> ModelParts:
    """Return the model that ``save_baseline`` wrote. Raises ModelError where it is missing or incomplete."""
    folder = root / source.path
    config_file = folder / CONFIG_NAME
    if not config_file.is_file():
        raise ModelError(
            f"There is no trained baseline in {source.path}.",
            hint="Train it with: python -m forwardinf_core fit PROJECT",
        )
    config, classes = _read_config(config_file)
    module = Baseline(config)
    weights = root / source.weights if source.weights is not None else folder / WEIGHTS_NAME
    load_into(module, load_weights(weights), weights.name)
    return ModelParts(
        module=module,
        objective=Classification(),
        inputs=load_preprocessing(folder) if source.mean is None else stated_preprocessing(source),
        classes=source.classes or classes,
        definition=json.dumps(asdict(config)),
        origin=f"{source.path.rstrip('/')}/{weights.name}",
        head=Baseline.HEAD,
        tail=Baseline.TAIL,
    )


def _read_config(path: Path) -> tuple[BaselineConfig, tuple[str, ...]]:
    names = {field.name for field in fields(BaselineConfig)}
    wrong = ModelError(
        f"{path.parent.name}/{path.name} does not describe a baseline.",
        hint=f"Expected {', '.join(sorted(names))} and classes. For a transformers model, set kind: transformers.",
    )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        classes = tuple(str(name) for name in content.pop("classes"))
        config = BaselineConfig(**content)
    except (ValueError, KeyError, AttributeError, TypeError, OSError) as error:
        raise wrong from error
    if not all(isinstance(value, int) and value > 0 for value in asdict(config).values()):
        raise wrong
    return config, classes
