"""Tries a model out on a few pictures or texts before anything long runs on it."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from forwardinf_core.errors import ModelError
from forwardinf_core.influence.objective import Batch
from forwardinf_core.models.audit_model import Inputs
from forwardinf_core.models.parts import ModelParts
from forwardinf_core.models.text_encoding import TextEncoding

N_PROBES = 3
PROBE_TEXTS = ("What is this ?", "It is a text of a few words, long enough to be read as one.", "")
BATCH_TOLERANCE = 1e-2  # relative to the largest output; other batch sizes use other kernels, far below this


def probe(parts: ModelParts) -> None:
    """Run the model on a few pictures of noise, or texts.

    Raises ModelError where it fails, gives outputs of another shape than (n, n_classes), gives NaN, changes its own
    buffers, or answers differently the second time or in another batch: scores would then measure that.
    """
    with torch.inference_mode():
        batch = probe_inputs(parts.inputs) | {"label": torch.arange(N_PROBES) % len(parts.classes)}
        row = "text" if parts.content == "text" else "picture"
        buffers = {name: value.clone() for name, value in parts.module.named_buffers()}
        outputs = _outputs(parts, batch)
        _require_shape(parts, outputs)
        if not outputs.isfinite().all():
            raise ModelError(
                f"The model in {parts.origin} gives NaN or infinite outputs.", hint="Check its weights, mean and std."
            )
        again = _outputs(parts, batch)
        changed = any(not torch.equal(value, buffers[name]) for name, value in parts.module.named_buffers())
        if changed or not torch.allclose(outputs, again, rtol=1e-4, atol=1e-6):
            raise ModelError(
                f"The model in {parts.origin} gives two answers to one {row}: it is in training mode.",
                hint="Dropout or BatchNorm is still active; call model.eval() before saving or exporting it.",
            )
        singles = [{name: value[i : i + 1] for name, value in batch.items()} for i in range(N_PROBES)]
        alone = torch.cat([_outputs(parts, single) for single in singles])
        if (alone - outputs).abs().max() > BATCH_TOLERANCE * outputs.abs().max().clamp_min(1.0):
            raise ModelError(
                f"The model in {parts.origin} answers differently for a {row} alone and in a batch.",
                hint="Rows must not influence each other; look for statistics taken over the batch.",
            )
        losses = parts.objective.losses(outputs, batch)
        if losses.shape != (N_PROBES,) or not losses.isfinite().all():
            raise ModelError(f"The loss of the model in {parts.origin} is not a finite number for every row.")


def _outputs(parts: ModelParts, batch: Batch) -> Tensor:
    try:
        return parts.objective.outputs(parts.module, batch)
    except ModelError:
        raise
    except Exception as error:  # whatever the user's module raises is about its input
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ModelError(
            f"The model in {parts.origin} cannot take {parts.content}s of shape "
            f"{tuple(next(iter(batch.values())).shape)}.",
            hint=f"It says: {reason}",
        ) from error


def _require_shape(parts: ModelParts, outputs: Tensor) -> None:
    n_classes = len(parts.classes)
    if outputs.ndim != 2 or len(outputs) != N_PROBES:
        raise ModelError(
            f"The model in {parts.origin} gives outputs of shape {tuple(outputs.shape)} "
            f"for {N_PROBES} {parts.content}s.",
            hint=f"Expected one number a class, shape ({N_PROBES}, {n_classes}).",
        )
    if outputs.shape[1] != n_classes:
        raise ModelError(
            f"The model in {parts.origin} has {outputs.shape[1]} outputs, and {n_classes} classes are named.",
            hint=f"Named: {', '.join(parts.classes[:10])}{', …' if n_classes > 10 else ''}. Mend model.classes.",
        )


def probe_inputs(inputs: Inputs) -> Batch:
    """Return a few pictures of noise or texts, always the same, as the model reads them."""
    return inputs(PROBE_TEXTS) if isinstance(inputs, TextEncoding) else {"x": inputs(probe_pictures())}


def probe_pictures() -> list[Image.Image]:
    """Return a few pictures of noise, always the same."""
    noise = np.random.default_rng(0).integers(0, 256, (N_PROBES, 48, 48, 3), dtype=np.uint8)
    return [Image.fromarray(picture) for picture in noise]
