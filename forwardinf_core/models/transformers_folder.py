"""Models of kind ``transformers``: an image classifier in a folder, or by hub name from the local cache.

Nothing is downloaded and no code of the folder runs.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import nn

from forwardinf_core.errors import ModelError
from forwardinf_core.influence.objective import Classification
from forwardinf_core.models.parts import ModelParts, stated_preprocessing
from forwardinf_core.models.preprocessing import load_preprocessing
from forwardinf_core.models.source import ModelSource
from forwardinf_core.models.weights import load_into, load_weights

PREPROCESSING_NAME = "preprocessor_config.json"


def load_transformers(source: ModelSource, root: Path) -> ModelParts:
    """Return an image classifier. Raises ModelError for another kind of model and for weights that could hold code."""
    folder = _folder(source, root)
    config = folder / "config.json"
    if not config.is_file():
        raise ModelError(f"{source.path} has no config.json.", hint="Expected a folder written by save_pretrained().")
    _refuse_pickled_weights(folder, source)
    module, id2label = _classifier(folder, source)
    if source.weights is not None:
        load_into(module, load_weights(root / source.weights), source.weights)
    processor = folder / PREPROCESSING_NAME
    return ModelParts(
        module=module,
        objective=Classification(),
        preprocessing=load_preprocessing(folder) if source.mean is None else stated_preprocessing(source),
        classes=source.classes or tuple(str(id2label[index]) for index in sorted(id2label)),
        definition=config.read_text(encoding="utf-8")
        + (processor.read_text(encoding="utf-8") if processor.is_file() else ""),
        origin=source.weights or source.path,
    )


def _folder(source: ModelSource, root: Path) -> Path:
    folder = root / source.path
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(source.path, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError) as error:
        raise ModelError(
            f"There is no model folder {source.path}.",
            hint=f"Looked for {folder}. A model of the hub must be downloaded first: hf download {source.path}",
        ) from error


def _refuse_pickled_weights(folder: Path, source: ModelSource) -> None:
    if any(folder.glob("*.safetensors")):
        return
    pickled = sorted(path.name for path in folder.glob("*.bin")) or sorted(path.name for path in folder.glob("*.pt*"))
    if pickled:
        raise ModelError(
            f"{source.path} has its weights as a pickle ({pickled[0]}), which could run code, so it is refused.",
            hint="Where you trust it, load it once and save it again as safetensors: model.save_pretrained(folder).",
        )
    raise ModelError(f"{source.path} has no weights.", hint="Expected model.safetensors.")


def _classifier(folder: Path, source: ModelSource) -> tuple[nn.Module, dict[int, str]]:
    from transformers import AutoModelForImageClassification

    try:
        module, info = AutoModelForImageClassification.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError, json.JSONDecodeError) as error:
        raise ModelError(
            f"{source.path} cannot be loaded as a transformers image classifier.",
            hint=f"The library says: {str(error).strip().splitlines()[0]}",
        ) from error
    absent = sorted(info["missing_keys"])
    if absent:
        raise ModelError(
            f"{source.path} lacks weights of an image classifier: {', '.join(absent[:3])}.",
            hint="It is probably a backbone that was never trained on classes; fine-tune it first.",
        )
    return module, module.config.id2label
