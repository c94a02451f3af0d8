"""A diffusion model ready to be traced: denoiser, noise schedule, and the way from an image to what is noised.

Nothing is downloaded, no code of a model's folder runs, and weights load as safetensors only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from forwardinf_core.errors import DataError, ModelError
from forwardinf_core.influence.diffusion import Denoising, Prediction, conditioning
from forwardinf_core.influence.objective import Batch
from forwardinf_core.models.prompts import PromptEncoder

Condition = Literal["none", "class", "text"]
Asked = int | str
"""What a picture is asked for: the code of a class, or a prompt."""
NO_PROMPT = ""
PREDICTIONS: tuple[Prediction, ...] = ("epsilon", "v_prediction", "sample")
GENERATION_STEPS = 50


class Codec(Protocol):
    """From images to the tensors that are noised, and back."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return (channels, height, width) of what is noised."""
        ...

    def encode(self, images: Sequence[Image.Image]) -> Tensor:
        """Return (n, c, h, w) float32."""
        ...

    def decode(self, samples: Tensor) -> list[Image.Image]:
        """Return the images of (n, c, h, w)."""
        ...


@dataclass(frozen=True)
class PixelCodec:
    """Pixels in [−1, 1]; an image is cut to its centred square and resized, grey or RGB."""

    channels: int
    size: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.size, self.size

    def encode(self, images: Sequence[Image.Image]) -> Tensor:
        return self._bytes(images).float().div_(127.5).sub_(1.0)

    def decode(self, samples: Tensor) -> list[Image.Image]:
        values = ((samples.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        return [Image.fromarray(one[:, :, 0] if self.channels == 1 else one) for one in values]

    def _bytes(self, images: Sequence[Image.Image]) -> Tensor:
        mode = "L" if self.channels == 1 else "RGB"
        arrays = [np.asarray(_square(image.convert(mode), self.size)) for image in images]
        return torch.from_numpy(np.stack(arrays).reshape(len(arrays), self.size, self.size, self.channels)).permute(
            0, 3, 1, 2
        )


def _square(image: Image.Image, size: int) -> Image.Image:
    """Return the centred square of an image at size × size; one that has the size keeps its pixels."""
    if image.size == (size, size):
        return image
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))


@dataclass(frozen=True)
class DiffusionModel:
    """A trained denoiser. ``module`` is in eval mode and is never changed.

    ``classes`` are the names of its class labels, in order; empty where it is not conditioned on classes.
    ``null_label`` stands for no class or prompt, where the model was trained with one. ``schedule`` is the
    configuration of its noise schedule. ``prompts`` reads what a text-to-image model is told. ``fingerprint`` is a
    SHA-256 over weights and configuration. ``has_filter``: its pipeline comes with a safety checker, which is not run.
    """

    module: nn.Module
    objective: Denoising
    codec: Codec
    condition: Condition
    classes: tuple[str, ...]
    null_label: Asked | None
    schedule: dict[str, object]
    fingerprint: str
    kind: str
    prompts: PromptEncoder | None = None
    has_filter: bool = False

    @property
    def n_timesteps(self) -> int:
        return len(self.objective.alphas)

    def conditions(self, asked: Sequence[Asked]) -> Batch:
        """Return the entries of a batch that condition the denoiser, one for each picture asked for."""
        if self.condition == "text":
            assert self.prompts is not None
            return self.prompts.entries([str(one) for one in asked])
        return {"label": torch.tensor([int(one) for one in asked])} if self.condition == "class" else {}

    def nothing(self) -> Batch:
        """Return the entries, of one row, that guidance goes away from; none where the model cannot be guided."""
        if self.prompts is not None:
            return self.prompts.nothing()
        return {} if self.null_label is None else self.conditions([self.null_label])

    def label_of(self, name: str | None) -> Asked | None:
        """Return the label of a class named by a person, or the prompt; None where the model takes none.

        Raises DataError for a class the model does not have, and for one given to a model without classes.
        """
        if self.condition == "text":
            return NO_PROMPT if name is None else name
        if self.condition != "class":
            if name is not None:
                raise DataError("This model is not conditioned on classes.", hint="Ask without a class or prompt.")
            return None
        if name is None and self.null_label is not None:
            return self.null_label
        if name in self.classes:
            return self.classes.index(name)
        listed = ", ".join(self.classes[:12]) + (", …" if len(self.classes) > 12 else "")
        said = "A class is needed." if name is None else f"The model has no class ‘{name[:80]}’."
        raise DataError(said, hint=f"Its classes: {listed}.")

    @torch.inference_mode()
    def generate(
        self, label: Asked | None, *, count: int, seed: int, steps: int = GENERATION_STEPS, guidance: float = 1.0
    ) -> list[Image.Image]:
        """Return generated images: DDIM without added noise, so the same seed gives the same images.

        ``guidance`` above 1 pushes away from the prediction without a class (Ho & Salimans 2022); it needs a
        ``null_label``. Raises DataError for options that make no sense.
        """
        from diffusers import DDIMScheduler

        if not 1 <= steps <= self.n_timesteps:
            raise DataError(f"{steps} steps are not possible.", hint=f"Choose 1 to {self.n_timesteps}.")
        if guidance != 1.0 and self.null_label is None:
            raise DataError("This model was not trained for guidance.", hint="Set guidance to 1.")
        scheduler = DDIMScheduler.from_config(self.schedule, clip_sample=self._clips())
        scheduler.set_timesteps(steps)
        sample = torch.randn(count, *self.codec.shape, generator=torch.Generator().manual_seed(seed))
        asked = {} if label is None else self.conditions([label])
        nothing = {} if guidance == 1.0 else self.nothing()
        for timestep in scheduler.timesteps:
            output = self._predict(sample, timestep, asked, nothing, guidance)
            sample = scheduler.step(output, timestep, sample).prev_sample
        return self.codec.decode(sample)

    def _clips(self) -> bool:
        return isinstance(self.codec, PixelCodec)

    def _predict(self, sample: Tensor, timestep: Tensor, asked: Batch, nothing: Batch, guidance: float) -> Tensor:
        found = self._call(sample, timestep, asked)
        if guidance == 1.0 or not nothing:
            return found
        without = self._call(sample, timestep, nothing)
        return without + guidance * (found - without)

    def _call(self, sample: Tensor, timestep: Tensor, condition: Batch) -> Tensor:
        given = conditioning({name: value.expand(len(sample), *value.shape[1:]) for name, value in condition.items()})
        output: Tensor = self.module(sample, timestep=timestep.expand(len(sample)), **given).sample
        return output[:, : sample.shape[1]]


def objective_of(schedule: dict[str, object], origin: str) -> Denoising:
    """Return the loss that belongs to a schedule. Raises ModelError for one that cannot be traced."""
    from diffusers import DDPMScheduler

    prediction = schedule.get("prediction_type", "epsilon")
    if prediction not in PREDICTIONS:
        raise ModelError(
            f"{origin}: the prediction type {prediction} is not supported.",
            hint=f"Supported: {', '.join(PREDICTIONS)}.",
        )
    if "num_train_timesteps" not in schedule or "beta_schedule" not in schedule:
        raise ModelError(
            f"{origin}: the scheduler {schedule.get('_class_name', 'there')} has no known noise levels.",
            hint="Supported are the schedulers with betas (DDPM, DDIM, PNDM, Euler, DPM-Solver …), not flow matching.",
        )
    try:
        alphas = DDPMScheduler.from_config(schedule).alphas_cumprod
    except (NotImplementedError, ValueError, TypeError) as error:
        raise ModelError(
            f"{origin}: the noise schedule cannot be read.", hint=f"The library says: {str(error).splitlines()[0]}"
        ) from error
    chosen = next(known for known in PREDICTIONS if known == prediction)
    return Denoising(alphas, chosen)
