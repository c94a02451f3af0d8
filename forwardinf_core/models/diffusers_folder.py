"""Models of kind ``diffusers``: a denoiser's folder, or a whole pipeline's, as ``save_pretrained`` writes them.

A denoiser alone needs a scheduler beside it (``scheduler/`` or ``scheduler_config.json``). Of a pipeline the denoiser,
the scheduler and the image autoencoder are used. Nothing is downloaded, no code of the folder runs, safetensors only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from forwardinf_core.errors import ModelError
from forwardinf_core.models.denoiser import NO_PROMPT, Codec, Condition, DiffusionModel, PixelCodec, objective_of
from forwardinf_core.models.parts import fingerprint
from forwardinf_core.models.prompts_folder import PIXART, UNET, load_prompts
from forwardinf_core.models.source import ModelSource
from forwardinf_core.models.weights import refuse_not_finite, variant_of

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, ModelMixin

DENOISERS = ("unet", "transformer")
DIT = "DiTTransformer2DModel"
CLASSES = ("UNet2DModel", DIT, UNET, PIXART)
RENAMED = {"ada_norm_zero": DIT, "ada_norm_single": PIXART}  # a Transformer2DModel of old, by its norm_type
ENCODE_BATCH = 16


@dataclass(frozen=True)
class LatentCodec:
    """Latents of an image autoencoder: the mean of its code, scaled as the denoiser was trained."""

    vae: AutoencoderKL
    size: int  # side of the latents

    @property
    def shape(self) -> tuple[int, int, int]:
        return int(self.vae.config.latent_channels), self.size, self.size

    @property
    def pixels(self) -> PixelCodec:
        """Return the codec of the images themselves."""
        return PixelCodec(
            int(self.vae.config.in_channels), self.size * 2 ** (len(self.vae.config.block_out_channels) - 1)
        )

    @torch.inference_mode()
    def encode(self, images: Sequence[Image.Image]) -> Tensor:
        scale, shift = self._levels()
        parts = []
        for start in range(0, len(images), ENCODE_BATCH):
            code = self.vae.encode(self.pixels.encode(images[start : start + ENCODE_BATCH])).latent_dist.mean
            parts.append((code - shift) * scale)
        return torch.cat(parts).clone()

    @torch.inference_mode()
    def decode(self, samples: Tensor) -> list[Image.Image]:
        scale, shift = self._levels()
        return self.pixels.decode(self.vae.decode(samples / scale + shift).sample)

    def _levels(self) -> tuple[Tensor, Tensor]:
        """Return what latents are multiplied with after what is taken off them, each (1, c, 1, 1) or (1, 1, 1, 1)."""
        said = self.vae.config
        centre = said.shift_factor or 0.0 if said.latents_mean is None else said.latents_mean
        spread = 1.0 if said.latents_std is None else said.latents_std
        scale = float(said.scaling_factor) / torch.tensor(spread).reshape(1, -1, 1, 1)
        return scale, torch.tensor(centre).reshape(1, -1, 1, 1)


def load_diffusers(source: ModelSource, root: Path) -> DiffusionModel:
    """Return the diffusion model in a folder. Raises ModelError, in a sentence, for what cannot be traced."""
    folder = root / source.path
    if not folder.is_dir():
        raise ModelError(f"There is no model folder {source.path}.", hint=f"Looked for {folder}.")
    index = _json(folder / "model_index.json")
    name = next((part for part in DENOISERS if (folder / part).is_dir()), None) if index is not None else None
    if index is not None and name is None:
        raise ModelError(
            f"The pipeline in {source.path} has no denoiser.", hint=f"Looked for {' or '.join(DENOISERS)}."
        )
    denoiser = folder if name is None else folder / name
    module = _denoiser(denoiser, source.path)
    schedule = _json(folder / "scheduler" / "scheduler_config.json") or _json(folder / "scheduler_config.json")
    if schedule is None:
        raise ModelError(
            f"{source.path} has no noise schedule.",
            hint="Expected scheduler/scheduler_config.json beside the denoiser.",
        )
    settings = dict(module.config)
    codec = _codec(folder, settings, source.path)
    pixels = codec.pixels.size if isinstance(codec, LatentCodec) else codec.shape[-1]
    prompts = load_prompts(folder, module, index, pixels, source.path)
    condition, classes = ("text", ()) if prompts else _classes(settings, source, index)
    state = module.state_dict()
    refuse_not_finite(state, source.path)
    autoencoder = codec.vae.state_dict() if isinstance(codec, LatentCodec) else {}
    weights = state | {f"vae.{name}": value for name, value in autoencoder.items()}
    texts = (json.dumps(settings, sort_keys=True, default=str), json.dumps(schedule, sort_keys=True))
    return DiffusionModel(
        module=module,
        objective=objective_of(schedule, source.path),
        codec=codec,
        condition=condition,
        classes=classes,
        null_label=_null_label(settings, classes) if condition == "class" else NO_PROMPT if prompts else None,
        schedule=schedule,
        fingerprint=fingerprint(
            weights, "diffusers", *texts, repr(codec.shape), *classes, *((prompts.fingerprint,) if prompts else ())
        ),
        kind=source.kind,
        prompts=prompts,
        has_filter=isinstance(part := (index or {}).get("safety_checker"), list) and any(part),
    )


def _denoiser(folder: Path, shown: str) -> ModelMixin:
    import diffusers

    config = _json(folder / "config.json")
    kind = None if config is None else config.get("_class_name")
    if config is not None and kind == "Transformer2DModel":
        kind = RENAMED.get(str(config.get("norm_type")), kind)
    if kind not in CLASSES:
        raise ModelError(
            f"{shown}: a denoiser of kind {kind or 'unknown'} cannot be traced.",
            hint=f"Supported: {', '.join(CLASSES)}.",
        )
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{shown} has no safetensors weights; other files could run code.",
            hint="Load it once where you trust it and save it with save_pretrained(folder, safe_serialization=True).",
        )
    try:
        module = getattr(diffusers, str(kind)).from_pretrained(
            folder, local_files_only=True, use_safetensors=True, variant=variant_of(folder)
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ModelError(
            f"The denoiser in {shown} cannot be loaded.", hint=f"The library says: {str(error).strip().splitlines()[0]}"
        ) from error
    assert isinstance(module, diffusers.ModelMixin)
    module.float().eval().requires_grad_(False)
    return module


def _codec(folder: Path, settings: dict[str, object], shown: str) -> Codec:
    size, channels = settings["sample_size"], settings["in_channels"]
    assert isinstance(channels, int)
    if not isinstance(size, int):
        raise ModelError(f"{shown} makes images that are not square.", hint="Square images are supported.")
    if not (folder / "vae").is_dir():
        return PixelCodec(channels, size)
    from diffusers import AutoencoderKL

    kind = (_json(folder / "vae" / "config.json") or {}).get("_class_name")
    if kind != AutoencoderKL.__name__:
        raise ModelError(
            f"{shown}/vae: an autoencoder of kind {kind or 'unknown'} cannot be used.",
            hint=f"Supported: {AutoencoderKL.__name__}.",
        )
    try:
        vae = AutoencoderKL.from_pretrained(
            folder / "vae", local_files_only=True, use_safetensors=True, variant=variant_of(folder / "vae")
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ModelError(
            f"The autoencoder in {shown}/vae cannot be loaded.",
            hint=f"The library says: {str(error).strip().splitlines()[0]}",
        ) from error
    if vae.config.latent_channels != channels:
        raise ModelError(
            f"{shown}: the autoencoder makes {vae.config.latent_channels} channels and the denoiser takes {channels}.",
            hint="They belong to different models.",
        )
    return LatentCodec(vae.float().eval().requires_grad_(False), size)


def _classes(
    settings: dict[str, object], source: ModelSource, index: dict[str, object] | None
) -> tuple[Condition, tuple[str, ...]]:
    count = settings.get("num_class_embeds") or settings.get("num_embeds_ada_norm")
    if not isinstance(count, int):
        return "none", ()
    named = (index or {}).get("id2label")
    labels = {int(key): str(value) for key, value in named.items()} if isinstance(named, dict) else {}
    classes = source.classes or tuple(labels[code] for code in sorted(labels)) or tuple(str(n) for n in range(count))
    if len(classes) > count + 1:
        raise ModelError(
            f"{source.path} knows {count} classes, and project.yaml names {len(classes)}.",
            hint="List the names in output order under model.classes.",
        )
    return "class", classes


def _null_label(settings: dict[str, object], classes: tuple[str, ...]) -> int | None:
    """Return the label that stands for no class: the one past the classes, where the model has it."""
    count, transformer = settings.get("num_class_embeds"), settings.get("num_embeds_ada_norm")
    if isinstance(count, int):
        return len(classes) if count > len(classes) else None
    return transformer if isinstance(transformer, int) else None


def _json(path: Path) -> dict[str, object] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
