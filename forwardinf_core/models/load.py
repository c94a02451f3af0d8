"""From the ``model:`` part of project.yaml to a model ready to be audited, whatever its kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from forwardinf_core.datasets.rows import TextRows
from forwardinf_core.errors import ModelError
from forwardinf_core.models.adapter import load_adapter
from forwardinf_core.models.audit_model import AuditModel
from forwardinf_core.models.baseline_folder import load_baseline
from forwardinf_core.models.denoiser import DiffusionModel
from forwardinf_core.models.denoiser_baseline import load_denoiser
from forwardinf_core.models.diffusers_folder import load_diffusers
from forwardinf_core.models.exported import load_exported
from forwardinf_core.models.parts import ModelParts, fingerprint
from forwardinf_core.models.probe import probe
from forwardinf_core.models.source import ModelSource
from forwardinf_core.models.structure import head_and_tail
from forwardinf_core.models.text_baseline_folder import load_text_baseline
from forwardinf_core.models.timm_model import load_timm
from forwardinf_core.models.transformers_folder import load_transformers
from forwardinf_core.models.transformers_text import load_transformers_text
from forwardinf_core.models.weights import refuse_not_finite


def load_model(source: ModelSource, *, root: Path, allow_code: bool = False) -> AuditModel:
    """Return an image classifier, tried out, in eval mode and float32. ``root`` is the project folder.

    ``allow_code`` lets an adapter run and an exported program hold code. Raises ModelError with what is wrong.
    """
    return _ready(source, _load(source, root, allow_code=allow_code))


def load_text_model(source: ModelSource, *, root: Path, sets: Sequence[TextRows]) -> AuditModel:
    """Return a text classifier, tried out, in eval mode and float32, that reads the longest text in ``sets``.

    Raises ModelError with what is wrong.
    """
    match source.kind:
        case "baseline":
            return _ready(source, load_text_baseline(source, root))
        case "transformers":
            return _ready(source, load_transformers_text(source, root, sets))
    raise ModelError(
        f"A model of kind {source.kind} cannot classify texts here.", hint="Expected baseline or transformers."
    )


def _ready(source: ModelSource, parts: ModelParts) -> AuditModel:
    module = parts.module.float().eval().requires_grad_(False)
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # convolutions run twice as fast
    state = module.state_dict()
    refuse_not_finite(state, parts.origin)
    probe(parts)
    head, tail = head_and_tail(source, parts)
    return AuditModel(
        module=module,
        objective=parts.objective,
        inputs=parts.inputs,
        classes=parts.classes,
        head=head,
        tail=tail,
        fingerprint=fingerprint(state, source.kind, parts.definition, repr(parts.inputs), *parts.classes),
        kind=source.kind,
    )


def _load(source: ModelSource, root: Path, *, allow_code: bool) -> ModelParts:
    match source.kind:
        case "baseline":
            return load_baseline(source, root)
        case "transformers":
            return load_transformers(source, root)
        case "timm":
            return load_timm(source, root)
        case "exported":
            return load_exported(source, root, allow_code=allow_code)
        case "adapter":
            return load_adapter(source, root, allow_code=allow_code)
        case "diffusers":
            raise ModelError(
                "A model of kind diffusers makes images; it does not classify them.",
                hint="Set task: diffusion in project.yaml.",
            )


def load_diffusion(source: ModelSource, *, root: Path) -> DiffusionModel:
    """Return the diffusion model of a project. Raises ModelError with what is wrong."""
    if source.kind == "baseline":
        return load_denoiser(root / source.path, source.path.rstrip("/"))
    if source.kind == "diffusers":
        return load_diffusers(source, root)
    raise ModelError(
        f"A model of kind {source.kind} cannot be traced as a diffusion model.", hint="Expected baseline or diffusers."
    )
