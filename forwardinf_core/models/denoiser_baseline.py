"""The built-in diffusion model that ``fit`` trains on any image set: a small ``diffusers`` UNet, by class or without.

Saved as ``config.json`` (shape, classes, schedule) and ``model.safetensors`` in the folder project.yaml names.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import save_file

from forwardinf_core.errors import ModelError
from forwardinf_core.models.denoiser import DiffusionModel, PixelCodec, objective_of
from forwardinf_core.models.parts import fingerprint
from forwardinf_core.models.weights import load_into, load_weights, refuse_not_finite

if TYPE_CHECKING:
    from diffusers import UNet2DModel
    from torch import nn

CONFIG_NAME, WEIGHTS_NAME = "config.json", "model.safetensors"
KIND = "forwardinf-denoiser"
NORM_GROUPS = 8
SCHEDULE: dict[str, object] = {
    "_class_name": "DDPMScheduler",
    "num_train_timesteps": 1000,
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "epsilon",
}


@dataclass(frozen=True, slots=True)
class DenoiserConfig:
    """Shape of the UNet. ``n_classes`` 0: unconditional; otherwise one more label stands for no class."""

    n_classes: int
    channels: int
    size: int
    width: int = 32  # channels of the first level; each further one has twice as many, up to 4×
    levels: int = 2  # the size halves between levels
    layers: int = 1  # residual blocks a level


def suitable_config(n_classes: int, channels: int, size: int, width: int | None = None) -> DenoiserConfig:
    """Return a shape that suits the images: as many levels as bring the side to 4 … 8 pixels."""
    levels = 1
    while size % 2**levels == 0 and size // 2**levels >= 4 and levels < 4:
        levels += 1
    return DenoiserConfig(n_classes, channels, size, width or 32, levels)


def make_denoiser(config: DenoiserConfig) -> UNet2DModel:
    """Return an untrained UNet; attention at the coarsest level only, where it is cheap."""
    from diffusers import UNet2DModel

    plain = config.levels - 1
    return UNet2DModel(
        sample_size=config.size,
        in_channels=config.channels,
        out_channels=config.channels,
        block_out_channels=tuple(config.width * min(2**level, 4) for level in range(config.levels)),
        layers_per_block=config.layers,
        down_block_types=("DownBlock2D",) * plain + ("AttnDownBlock2D",),
        up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * plain,
        norm_num_groups=NORM_GROUPS,
        attention_head_dim=config.width,
        num_class_embeds=config.n_classes + 1 if config.n_classes else None,
    )


def save_denoiser(folder: Path, module: UNet2DModel, config: DenoiserConfig, classes: tuple[str, ...]) -> None:
    """Write the model into an existing folder, weights last. The same weights give the same bytes."""
    content = {"kind": KIND, **asdict(config), "classes": list(classes), "schedule": SCHEDULE}
    (folder / CONFIG_NAME).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    save_file({name: value.contiguous() for name, value in module.state_dict().items()}, folder / WEIGHTS_NAME)


def load_denoiser(folder: Path, shown: str) -> DiffusionModel:
    """Return the model that ``save_denoiser`` wrote. Raises ModelError where it is missing or incomplete."""
    config, classes, schedule = _read(folder, shown)
    module = make_denoiser(config)
    state = load_weights(folder / WEIGHTS_NAME)
    load_into(module, state, f"{shown}/{WEIGHTS_NAME}")
    refuse_not_finite(state, f"{shown}/{WEIGHTS_NAME}")
    return as_model(module, config, classes, schedule, shown)


def as_model(
    module: nn.Module, config: DenoiserConfig, classes: tuple[str, ...], schedule: dict[str, object], shown: str
) -> DiffusionModel:
    """Return a trained network as the audits take it."""
    state = module.state_dict()
    return DiffusionModel(
        module=module.float().eval().requires_grad_(False),
        objective=objective_of(schedule, shown),
        codec=PixelCodec(config.channels, config.size),
        condition="class" if config.n_classes else "none",
        classes=classes,
        null_label=config.n_classes or None,
        schedule=schedule,
        fingerprint=fingerprint(dict(state), KIND, json.dumps([asdict(config), schedule], sort_keys=True), *classes),
        kind="baseline",
    )


def config_of(folder: Path, shown: str) -> DenoiserConfig:
    """Return the shape of the network in a folder. Raises ModelError where there is none."""
    return _read(folder, shown)[0]


def _read(folder: Path, shown: str) -> tuple[DenoiserConfig, tuple[str, ...], dict[str, object]]:
    path = folder / CONFIG_NAME
    if not path.is_file():
        raise ModelError(
            f"There is no trained diffusion model in {shown}.",
            hint="Train it with: python -m forwardinf_core fit PROJECT",
        )
    names = [field.name for field in fields(DenoiserConfig)]
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        config = DenoiserConfig(**{name: int(content[name]) for name in names})
        classes, schedule = tuple(str(name) for name in content["classes"]), dict(content["schedule"])
        fits = content["kind"] == KIND and len(classes) == config.n_classes
    except (ValueError, KeyError, TypeError) as error:
        raise _not_ours(shown, names) from error
    if not fits:
        raise _not_ours(shown, names)
    return config, classes, schedule


def _not_ours(shown: str, names: list[str]) -> ModelError:
    return ModelError(
        f"{shown}/{CONFIG_NAME} does not describe a built-in diffusion model.",
        hint=f"Expected {', '.join(names)}, classes and schedule. For a diffusers folder, set kind: diffusers.",
    )
