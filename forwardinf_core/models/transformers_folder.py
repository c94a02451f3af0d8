"""Models of kind ``transformers``: an image classifier in a folder, or by hub name from the local cache.

Nothing is downloaded and no code of the folder runs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from forwardinf_core.errors import ModelError
from forwardinf_core.influence.objective import Classification
from forwardinf_core.models.parts import ModelParts, stated_preprocessing
from forwardinf_core.models.preprocessing import load_preprocessing
from forwardinf_core.models.source import ModelSource
from forwardinf_core.models.weights import load_into, load_weights

if TYPE_CHECKING:
    from transformers import AutoModelForImageClassification, AutoModelForSequenceClassification, PreTrainedModel

    AutoClass = type[AutoModelForImageClassification] | type[AutoModelForSequenceClassification]

PREPROCESSING_NAME = "preprocessor_config.json"


def load_transformers(source: ModelSource, root: Path) -> ModelParts:
    """Return an image classifier. Raises ModelError for another kind of model and for weights that could hold code."""
    from transformers import AutoModelForImageClassification

    folder = model_folder(source, root)
    config = folder / "config.json"
    module = load_classifier(folder, source, AutoModelForImageClassification, "image classifier")
    id2label = module.config.id2label
    if source.weights is not None:
        load_into(module, load_weights(root / source.weights), source.weights)
    processor = folder / PREPROCESSING_NAME
    return ModelParts(
        module=module,
        objective=Classification(),
        inputs=load_preprocessing(folder) if source.mean is None else stated_preprocessing(source),
        classes=source.classes or tuple(str(id2label[index]) for index in sorted(id2label)),
        definition=config.read_text(encoding="utf-8")
        + (processor.read_text(encoding="utf-8") if processor.is_file() else ""),
        origin=source.weights or source.path,
    )


def model_folder(source: ModelSource, root: Path) -> Path:
    """Return the folder of a model, of the project or of the hub's cache. Raises ModelError where there is none."""
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


def load_classifier(folder: Path, source: ModelSource, family: AutoClass, what: str) -> PreTrainedModel:
    """Return the model in a folder, loaded by one of the library's automatic classes. Raises ModelError."""
    if not (folder / "config.json").is_file():
        raise ModelError(f"{source.path} has no config.json.", hint="Expected a folder written by save_pretrained().")
    _refuse_pickled_weights(folder, source)
    try:
        module, info = family.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError, json.JSONDecodeError) as error:
        raise ModelError(
            f"{source.path} cannot be loaded as a transformers {what}.",
            hint=f"The library says: {str(error).strip().splitlines()[0]}",
        ) from error
    absent = sorted(info["missing_keys"])
    if absent:
        raise ModelError(
            f"{source.path} lacks weights of {'an' if what[0] in 'aeiou' else 'a'} {what}: {', '.join(absent[:3])}.",
            hint="It is probably a backbone that was never trained on classes; fine-tune it first.",
        )
    model: PreTrainedModel = module
    return model
