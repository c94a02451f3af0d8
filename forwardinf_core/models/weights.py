"""Weights from files that cannot run code: safetensors, or state dicts read with ``weights_only=True``."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from forwardinf_core.errors import ModelError

PICKLE_HINT = "Save them as safetensors: safetensors.torch.save_file(model.state_dict(), 'model.safetensors')."
STATE_DICT_SUFFIXES = (".pt", ".pth")
WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts put the state dict of a checkpoint."""
BOOKKEEPING = "num_batches_tracked"  # of BatchNorm: many files leave it out, and in eval mode nothing reads it
NAMES_SHOWN = 3


def load_weights(path: Path) -> dict[str, Tensor]:
    """Return the named tensors of a weights file, on the CPU. Raises ModelError for anything that holds code."""
    if not path.is_file():
        raise ModelError(f"There is no weights file {path.name}.", hint=f"Looked for {path}.")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path.name} is not a readable safetensors file.", hint=f"{error}.") from error
    if path.suffix in STATE_DICT_SUFFIXES:
        return _load_state_dict(path)
    raise ModelError(
        f"Weights cannot be read from {path.name}: its kind of file may hold code.",
        hint=f"Expected .safetensors, .pt or .pth. {PICKLE_HINT}",
    )


def variant_of(folder: Path) -> str | None:
    """Return the variant a folder's weights are all of ("fp16" of model.fp16.safetensors), None where plain ones are.

    The libraries look for plain weights unless told otherwise; many pipelines are passed on in half precision alone.
    """
    stems = [path.name.removesuffix(".safetensors").split("-")[0] for path in sorted(folder.glob("*.safetensors"))]
    variants = [stem.partition(".")[2] for stem in stems]
    return variants[0] if variants and all(variants) else None


def load_into(module: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Load every tensor of ``state`` into the module. Raises ModelError where names or shapes differ."""
    own = module.state_dict()
    missing = sorted(name for name in own.keys() - state.keys() if not name.endswith(BOOKKEEPING))
    unknown = sorted(state.keys() - own.keys())
    if missing or unknown:
        parts = [f"missing: {_some(missing)}"] if missing else []
        parts += [f"not in the model: {_some(unknown)}"] if unknown else []
        raise ModelError(f"The weights in {origin} do not fit the model.", hint=f"Names {'; '.join(parts)}.")
    for name, value in state.items():
        if own[name].shape != value.shape:
            raise ModelError(
                f"The weights in {origin} do not fit the model.",
                hint=f"{name} is {tuple(value.shape)} in the file and {tuple(own[name].shape)} in the model.",
            )
    module.load_state_dict(own | dict(state))


def refuse_not_finite(state: Mapping[str, Tensor], origin: str) -> None:
    """Raise ModelError that names the tensors with NaN or infinite values, if there are any."""
    bad = [name for name, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if bad:
        raise ModelError(
            f"The weights in {origin} hold NaN or infinite values.",
            hint=f"In {_some(bad)}. The training probably diverged; use an earlier checkpoint.",
        )


def _load_state_dict(path: Path) -> dict[str, Tensor]:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path.name} is a pickle that holds more than weights, so it is refused: opening it could run code.",
            hint=PICKLE_HINT,
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise ModelError(f"{path.name} is not a readable weights file.", hint=str(error).splitlines()[0]) from error
    for key in WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
            break
    if not isinstance(loaded, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in loaded.items()
    ):
        raise ModelError(
            f"{path.name} does not hold a state dict.",
            hint=f"Expected a dict of named tensors. {PICKLE_HINT}",
        )
    return loaded


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more
