"""What project.yaml may hold: the pydantic schema, its JSON Schema, and one sentence for every mistake.

``docs/project.schema.json`` is written by ``python -m forwardinf_core.projects.schema`` and kept up to date by a test.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from forwardinf_core.datasets.rows import Content
from forwardinf_core.datasets.source import RowSource
from forwardinf_core.errors import ProjectError
from forwardinf_core.models.source import ModelSource

Task = Literal["image-classification", "text-classification", "diffusion"]
LANGUAGE_TASKS = ("causal-lm", "seq2seq-lm")  # their project.yaml is described in language.py
CONTENT_OF_TASK: dict[str, Content] = {
    "image-classification": "image",
    "text-classification": "text",
    "causal-lm": "text",
    "seq2seq-lm": "text",
    "diffusion": "image",
}
"""What a row of each task is: which of the columns ``image`` and ``text`` its sources name."""

TEXT_MODEL_KINDS = ("baseline", "transformers")
SCHEMA_FILE = Path(__file__).resolve().parents[2] / "docs" / "project.schema.json"
SHOWN_LENGTH = 60  # of an offending value


def _text(value: object) -> object:
    """Accept a project called 2024: YAML reads it as a number."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


class ProjectConfig(BaseModel):
    """The content of project.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, BeforeValidator(_text), Field(min_length=1, max_length=200)]
    task: Task
    model: ModelSource
    train: RowSource
    test: RowSource
    trusted: RowSource | None = Field(None, description="A small clean set.")
    reference_label: str | None = Field(None, min_length=1, description="Known-clean label column, for evaluation.")
    checkpoints: tuple[str, ...] = Field((), description="Earlier or other weights of the same model, oldest first.")

    @model_validator(mode="after")
    def _parts_fit_task(self) -> Self:
        other = "text" if CONTENT_OF_TASK[self.task] == "image" else "image"
        for name in ("train", "test", "trusted"):
            source = getattr(self, name)
            if source is not None and getattr(source, other) is not None:
                wanted = CONTENT_OF_TASK[self.task]
                raise ValueError(
                    f"{name}.{other} is given, and rows of {self.task} are {wanted}s; name {wanted} instead"
                )
        if self.task == "text-classification" and self.model.kind not in TEXT_MODEL_KINDS:
            raise ValueError(f"model.kind is {self.model.kind}, and {self.task} takes {' or '.join(TEXT_MODEL_KINDS)}")
        if self.model.mirrors and (self.task != "diffusion" or self.model.kind == "baseline"):
            raise ValueError(
                "model.mirrors is given, and only models of kind diffusers may be trained on mirrored images"
            )
        if self.task == "image-classification" and self.model.length is not None:
            raise ValueError("model.length is given, and images have no length in tokens")
        return self


def json_schema() -> str:
    """Return the published JSON Schema, as text that ends in a newline."""
    return json.dumps(ProjectConfig.model_json_schema(), indent=2) + "\n"


def parse_config(content: Mapping[str, object], origin: str) -> ProjectConfig:
    """Return the checked content of a project file. Raises ProjectError on the first mistake; see ``mistakes``."""
    found = mistakes(content, origin)
    if found:
        raise found[0]
    return ProjectConfig.model_validate(content)


def mistakes(content: Mapping[str, object], origin: str) -> list[ProjectError]:
    """Return everything that is wrong with the content of a project file, in its order. ``origin`` names the file."""
    try:
        ProjectConfig.model_validate(content)
    except ValidationError as error:
        return list(_sentences(error.errors(), origin))
    return []


def _sentences(errors: list[ErrorDetails], origin: str) -> Iterator[ProjectError]:
    # A union reports one error for each of its members; the first says enough.
    told: set[str] = set()
    for error in errors:
        field = ".".join(str(part) for part in error["loc"] if not _is_union_member(str(part)))
        if field not in told:
            told.add(field)
            yield _sentence(error, field, origin)


def _is_union_member(part: str) -> bool:
    return "[" in part or part in ("int", "tuple")


def _sentence(error: ErrorDetails, field: str, origin: str) -> ProjectError:
    expected = error.get("ctx", {})
    match error["type"]:
        case "missing":
            return ProjectError(f"{origin}: {field} is missing.", hint=f"Add it. {_keys(field)}".strip())
        case "extra_forbidden":
            near = difflib.get_close_matches(field.rpartition(".")[2], _known_keys(field), n=1)
            hint = f"Did you mean {near[0]}? {_keys(field)}" if near else _keys(field)
            return ProjectError(f"{origin}: {field} is not a known key.", hint=hint)
        case "literal_error" if field == "task" and error["input"] in LANGUAGE_TASKS:
            hint = "Ask with: python -m forwardinf_core trace"
            return ProjectError(
                "The model of this project is a language model, which this command cannot ask.", hint=hint
            )
        case "literal_error":
            known = str(expected["expected"]).split("'")[1::2]
            known += LANGUAGE_TASKS if field == "task" else ()
            near = difflib.get_close_matches(str(error["input"]), known, n=1)
            hint = f"Expected {', '.join(known[:-1])} or {known[-1]}." if known[1:] else f"Expected {known[0]}."
            hint = f"Did you mean {near[0]}? {hint}" if near else hint
            return ProjectError(f"{origin}: {field} is {_shown(error['input'])}.", hint=hint)
        case "value_error":
            reason = str(expected["error"])
            place = f"{origin}: {field}" if field else origin
            return ProjectError(f"{place}: {reason}.", hint=_value_hint(error["input"]))
        case _:
            message = error["msg"][0].lower() + error["msg"][1:]
            return ProjectError(f"{origin}: {field} is {_shown(error['input'])}.", hint=f"Wrong because {message}.")


def _value_hint(value: object) -> str:
    return "" if isinstance(value, Mapping) else f"Found {_shown(value)}."


def _shown(value: object) -> str:
    if value is None:
        return "empty"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= SHOWN_LENGTH else text[: SHOWN_LENGTH - 1] + "…"


def _known_keys(field: str) -> list[str]:
    """Return the keys that may stand where ``field`` stands."""
    model: type[BaseModel] = ProjectConfig
    for part in field.split(".")[:-1]:
        annotation = model.model_fields[part].annotation
        members = [annotation, *get_args(annotation)]
        model = next(member for member in members if isinstance(member, type) and issubclass(member, BaseModel))
    return list(model.model_fields)


def _keys(field: str) -> str:
    place = field.rpartition(".")[0]
    return f"Keys {f'of {place}' if place else 'there are'}: {', '.join(_known_keys(field))}."


if __name__ == "__main__":
    SCHEMA_FILE.write_text(json_schema())
