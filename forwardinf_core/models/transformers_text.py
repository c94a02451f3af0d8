"""Text classifiers of kind ``transformers``: model and fast tokenizer in one folder, or by hub name from the cache.

Nothing is downloaded and no code of the folder runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from forwardinf_core.datasets.rows import TextRows
from forwardinf_core.errors import ModelError
from forwardinf_core.influence.objective import Classification
from forwardinf_core.models.parts import ModelParts
from forwardinf_core.models.source import ModelSource
from forwardinf_core.models.text_encoding import IDS, LONGEST, MASK, TYPES, TextEncoding, fitting_length
from forwardinf_core.models.transformers_folder import load_classifier, model_folder
from forwardinf_core.models.weights import load_into, load_weights

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TASK = "text-classification"
OTHER_PROBLEMS = ("regression", "multi_label_classification")


def load_transformers_text(source: ModelSource, root: Path, sets: Sequence[TextRows]) -> ModelParts:
    """Return a sequence classifier; every text is padded to the length of the longest in ``sets``.

    Raises ModelError for another kind of model, a folder without a fast tokenizer, and weights that could hold code.
    """
    from transformers import AutoModelForSequenceClassification

    folder = model_folder(source, root)
    module = load_classifier(folder, source, AutoModelForSequenceClassification, "text classifier")
    config = module.config
    if getattr(config, "problem_type", None) in OTHER_PROBLEMS or config.num_labels < 2:
        raise ModelError(
            f"{source.path} does not choose one class of several.",
            hint=f"It has {config.num_labels} outputs and solves: {config.problem_type or 'regression'}.",
        )
    if source.weights is not None:
        load_into(module, load_weights(root / source.weights), source.weights)
    tokenizer = _fast_tokenizer(folder, source)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else getattr(config, "pad_token_id", None)
    if pad is None:
        raise ModelError(
            f"The tokenizer in {source.path} has no padding token.",
            hint="Set one (tokenizer.pad_token), set config.pad_token_id, and save both again.",
        )
    inner = tokenizer.backend_tokenizer
    _require_known_tokens(module, inner.get_vocab_size(), source.path)
    most = min(source.length or LONGEST, _positions(module, config), tokenizer.model_max_length)
    entries = (IDS, MASK, TYPES) if TYPES in tokenizer.model_input_names else (IDS, MASK)
    encoding = TextEncoding(inner, fitting_length(inner, sets, most), int(pad), entries)
    return ModelParts(
        module=module,
        objective=Classification(TASK),
        inputs=encoding,
        classes=source.classes or tuple(str(config.id2label[index]) for index in sorted(config.id2label)),
        definition=(folder / "config.json").read_text(encoding="utf-8") + encoding.definition(),
        origin=source.weights or source.path,
    )


def _fast_tokenizer(folder: Path, source: ModelSource) -> PreTrainedTokenizerFast:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if not (folder / "tokenizer.json").is_file():  # without it the library makes up an empty one
        raise ModelError(
            f"{source.path} has no fast tokenizer.",
            hint="Save it beside the model: tokenizer.save_pretrained(folder) writes tokenizer.json.",
        )
    try:
        found = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the library raises anything on files that do not fit together
        raise ModelError(
            f"{source.path} has a tokenizer that cannot be loaded.",
            hint=f"The library says: {(str(error).strip().splitlines() or [type(error).__name__])[0][:200]}",
        ) from error
    if not isinstance(found, PreTrainedTokenizerFast):
        raise ModelError(
            f"The tokenizer in {source.path} is not a fast one.", hint="Expected a tokenizer.json beside the model."
        )
    return found


def _positions(module: nn.Module, config: object) -> int:
    """Return how many tokens the model can read; some families keep the first positions for padding."""
    for name, part in module.named_modules():
        if name.endswith("position_embeddings") and isinstance(part, nn.Embedding) and part.padding_idx is not None:
            return part.num_embeddings - part.padding_idx - 1
    return int(getattr(config, "max_position_embeddings", None) or LONGEST)


def _require_known_tokens(module: nn.Module, n_tokens: int, path: str) -> None:
    known = module.get_input_embeddings().weight.shape[0]  # type: ignore[operator]  # every transformers model has it
    if n_tokens > known:
        raise ModelError(
            f"The tokenizer in {path} has {n_tokens} tokens and the model knows {known}.",
            hint="They do not belong together; save the tokenizer the model was trained with.",
        )
