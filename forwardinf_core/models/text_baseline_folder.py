"""Text models of kind ``baseline``: the folder that ``fit`` writes (config.json, tokenizer.json, model.safetensors)."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import save_file

from forwardinf_core.errors import ModelError
from forwardinf_core.influence.objective import Classification
from forwardinf_core.models.baseline_folder import CONFIG_NAME, WEIGHTS_NAME
from forwardinf_core.models.parts import ModelParts
from forwardinf_core.models.source import ModelSource
from forwardinf_core.models.text_baseline import PAD_ID, TextBaseline, TextBaselineConfig
from forwardinf_core.models.text_encoding import TextEncoding, read_tokenizer
from forwardinf_core.models.weights import load_into, load_weights

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER_NAME = "tokenizer.json"
TASK = "text-classification"


def save_text_baseline(folder: Path, module: TextBaseline, classes: tuple[str, ...], tokenizer: Tokenizer) -> None:
    """Write the model into an existing folder. The same weights give the same bytes."""
    config = asdict(module.config) | {"classes": list(classes)}
    (folder / CONFIG_NAME).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / TOKENIZER_NAME).write_text(tokenizer.to_str(pretty=True) + "\n", encoding="utf-8")
    save_file({name: value.contiguous() for name, value in module.state_dict().items()}, folder / WEIGHTS_NAME)


def load_text_baseline(source: ModelSource, root: Path) -> ModelParts:
    """Return the model that ``save_text_baseline`` wrote. Raises ModelError where it is missing or incomplete."""
    folder = root / source.path
    if not (folder / CONFIG_NAME).is_file():
        raise ModelError(
            f"There is no trained baseline in {source.path}.",
            hint="Train it with: python -m forwardinf_core fit PROJECT",
        )
    config, classes = _read_config(folder / CONFIG_NAME)
    module = TextBaseline(config)
    weights = root / source.weights if source.weights is not None else folder / WEIGHTS_NAME
    load_into(module, load_weights(weights), weights.name)
    encoding = TextEncoding(read_tokenizer(folder / TOKENIZER_NAME), config.length, PAD_ID)
    if encoding.tokenizer.get_vocab_size() > config.n_tokens:
        raise ModelError(
            f"The tokenizer in {source.path} has {encoding.tokenizer.get_vocab_size()} tokens and the model "
            f"{config.n_tokens}.",
            hint="They belong to different trainings; train again with fit.",
        )
    return ModelParts(
        module=module,
        objective=Classification(TASK),
        inputs=encoding,
        classes=source.classes or classes,
        definition=json.dumps(asdict(config)) + encoding.definition(),
        origin=f"{source.path.rstrip('/')}/{weights.name}",
        head=TextBaseline.HEAD,
        tail=TextBaseline.TAIL,
    )


def _read_config(path: Path) -> tuple[TextBaselineConfig, tuple[str, ...]]:
    names = {field.name for field in fields(TextBaselineConfig)}
    wrong = ModelError(
        f"{path.parent.name}/{path.name} does not describe a text baseline.",
        hint=f"Expected {', '.join(sorted(names))} and classes. For a transformers model, set kind: transformers.",
    )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        classes = tuple(str(name) for name in content.pop("classes"))
        config = TextBaselineConfig(**content)
    except (ValueError, KeyError, AttributeError, TypeError, OSError) as error:
        raise wrong from error
    if not all(isinstance(value, int) and value > 0 for value in asdict(config).values()):
        raise wrong
    return config, classes
