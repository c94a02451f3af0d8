"""The ``model:`` part of project.yaml: which model it is, where it lies, and how rows reach it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveFloat, model_validator

ModelKind = Literal["baseline", "transformers", "timm", "exported", "adapter", "diffusers"]

NEEDS_PREPROCESSING = ("exported", "adapter")
"""Kinds that bring no preprocessing of their own: project.yaml states classes, mean, std and size."""


def _name(value: object) -> object:
    """Accept whole numbers as class names; YAML's yes/no/true/false are refused, for they lose what was written."""
    if isinstance(value, bool):
        raise ValueError(f"YAML reads this name as {str(value).lower()}; put it in quotes")  # noqa: TRY004
    return str(value) if isinstance(value, int) else value


ClassName = Annotated[str, BeforeValidator(_name), Field(min_length=1)]
Side = Annotated[int, Field(ge=1, le=4096)]


class ModelSource(BaseModel):
    """Where the trained model is. Paths are relative to the project folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: ModelKind
    path: str = Field(min_length=1, description="Folder, file or hub name of the model, by kind.")
    weights: str | None = Field(None, description="Weights file: safetensors, or a plain state dict (.pt, .pth).")
    classes: tuple[ClassName, ...] | None = Field(None, min_length=2, description="Class names in output order.")
    mean: tuple[float, ...] | None = Field(None, description="Mean per channel of pixels / 255: 1 or 3 numbers.")
    std: tuple[PositiveFloat, ...] | None = Field(None, description="Standard deviation per channel.")
    size: Side | None = Field(None, description="Side of the square input in pixels.")
    length: Annotated[int, Field(ge=2, le=4096)] | None = Field(
        None, description="Most tokens of a text that are read."
    )
    tail: tuple[str, ...] | None = Field(None, min_length=1, description="Module names the tail step may move.")
    head: str | None = Field(None, min_length=1, description="Module name of the last linear layer.")
    mirrors: bool = Field(False, description="Diffusion: trained on pictures mirrored at random; half the draws are.")

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.classes is not None and len(set(self.classes)) < len(self.classes):
            twice = sorted({name for name in self.classes if self.classes.count(name) > 1})
            raise ValueError(f"classes must differ, and {', '.join(twice)} is there twice")
        if self.kind in NEEDS_PREPROCESSING:
            missing = [name for name in ("classes", "mean", "std", "size") if getattr(self, name) is None]
            if missing:
                raise ValueError(
                    f"a model of kind {self.kind} says nothing of its input, so {', '.join(missing)} must be given here"
                )
        stated = [name for name in ("mean", "std", "size") if getattr(self, name) is not None]
        if 0 < len(stated) < 3:
            raise ValueError(
                f"mean, std and size are given together or not at all, and here is only {' and '.join(stated)}"
            )
        if self.mean is not None and self.std is not None:
            if len(self.mean) not in (1, 3):
                raise ValueError(f"mean must hold 1 number (grey) or 3 (RGB), not {len(self.mean)}")
            if len(self.std) != len(self.mean):
                raise ValueError(f"mean holds {len(self.mean)} numbers and std {len(self.std)}; they must agree")
        return self
