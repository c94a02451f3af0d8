"""Projects of language models: a folder with project.yaml whose task is causal-lm or seq2seq-lm.

They have texts instead of labelled rows, so their project.yaml has a schema of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Self, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from forwardinf_core.datasets.documents import Documents, DocumentSource, open_documents
from forwardinf_core.errors import ProjectError
from forwardinf_core.influence.language import LanguageTask
from forwardinf_core.models.language import LanguageModel, load_language_model
from forwardinf_core.models.source import ModelSource
from forwardinf_core.projects.load import AUDIT_FOLDER, locate
from forwardinf_core.projects.places import ALLOW_OUTSIDE, demo_folder, inside, is_set
from forwardinf_core.projects.schema import LANGUAGE_TASKS
from forwardinf_core.projects.yaml_file import read_yaml

MODEL_KEYS = ("kind", "path", "weights")


class LanguageConfig(BaseModel):
    """The content of project.yaml of a language model. ``test`` are prompts to try, optional."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, BeforeValidator(str), Field(min_length=1, max_length=200)]
    task: LanguageTask
    model: ModelSource
    train: DocumentSource
    test: DocumentSource | None = None

    @model_validator(mode="after")
    def _model_of_language(self) -> Self:
        other = [name for name in ModelSource.model_fields if name in self.model.model_fields_set - set(MODEL_KEYS)]
        if other:
            raise ValueError(f"model.{other[0]} is given, and a language model takes {', '.join(MODEL_KEYS)} alone")
        return self


@dataclass(frozen=True)
class LanguageProject:
    """An opened project. ``audit_dir`` holds caches and runs, is made when first written to, and may be deleted."""

    root: Path  # absolute, links followed
    config: LanguageConfig
    allow_outside: bool = False

    @property
    def audit_dir(self) -> Path:
        """Where caches and runs lie."""
        return self.root / AUDIT_FOLDER

    @property
    def is_demo(self) -> bool:
        """Say whether this is the demo that comes with the program."""
        return self.root == demo_folder("facts")

    def load_model(self) -> LanguageModel:
        """Load the model with its tokenizer. Raises ModelError or ProjectError."""
        source = self.config.model
        inside(self.root, source.path, "model.path", allow_outside=self.allow_outside)
        if source.weights is not None:
            inside(self.root, source.weights, "model.weights", allow_outside=self.allow_outside)
        return load_language_model(source, self.root, self.config.task)

    @cached_property
    def texts(self) -> Documents:
        """The training texts."""
        return open_documents(self.config.train, self.root, allow_outside=self.allow_outside)

    @cached_property
    def prompts(self) -> Documents | None:
        """Prompts to try, where project.yaml names some."""
        source = self.config.test
        return None if source is None else open_documents(source, self.root, allow_outside=self.allow_outside)


def language_task_of(ref: str | Path) -> LanguageTask | None:
    """Return the task of a project where it is one of language models, None for any other. Raises ProjectError."""
    task = read_yaml(locate(ref)).get("task")
    return cast("LanguageTask", task) if task in LANGUAGE_TASKS else None


def open_language_project(ref: str | Path, *, allow_outside: bool = False) -> LanguageProject:
    """Open a project and check project.yaml; neither texts nor model are read. Raises ProjectError."""
    path = locate(ref)
    try:
        config = LanguageConfig.model_validate(read_yaml(path))
    except ValidationError as error:
        raise _sentence(error, path.name) from error
    return LanguageProject(path.parent, config, allow_outside or is_set(ALLOW_OUTSIDE))


def _sentence(error: ValidationError, origin: str) -> ProjectError:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"]) or "the file"
    keys = f"Keys of a language project: {', '.join(LanguageConfig.model_fields)}; of its texts: " + ", ".join(
        DocumentSource.model_fields
    )
    match first["type"]:
        case "missing":
            return ProjectError(f"{origin}: {place} is missing.", hint=f"Add it. {keys}.")
        case "extra_forbidden":
            return ProjectError(f"{origin}: {place} is not a known key.", hint=f"{keys}.")
        case _:
            return ProjectError(f"{origin}: {place} is wrong.", hint=f"{first['msg']}.")
