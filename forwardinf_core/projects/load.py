"""Opens a project: a folder with project.yaml, or a demo by name."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from forwardinf_core.datasets.opening import open_rows
from forwardinf_core.datasets.rows import DataRows, TextRows, texts_of
from forwardinf_core.datasets.source import RowSource
from forwardinf_core.errors import ProjectError
from forwardinf_core.models.audit_model import AuditModel
from forwardinf_core.models.denoiser import DiffusionModel
from forwardinf_core.models.load import load_diffusion, load_model, load_text_model
from forwardinf_core.projects.places import ALLOW_CODE, ALLOW_OUTSIDE, demo_folder, inside, is_set
from forwardinf_core.projects.schema import CONTENT_OF_TASK, ProjectConfig, parse_config
from forwardinf_core.projects.yaml_file import read_yaml

FILE_NAME = "project.yaml"
AUDIT_FOLDER = ".audit"
DEMO_PREFIX = "demo:"
DEMOS = ("digits", "facts", "painter")


@dataclass(frozen=True, slots=True)
class Project:
    """An opened project. ``audit_dir`` holds caches and runs, is made when first written to, and may be deleted."""

    root: Path  # absolute, links followed
    config: ProjectConfig
    allow_outside: bool = False

    @property
    def audit_dir(self) -> Path:
        return self.root / AUDIT_FOLDER

    @property
    def is_demo(self) -> bool:
        return any(self.root == demo_folder(name) for name in DEMOS)

    def train_rows(self, classes: tuple[str, ...] | None) -> DataRows:
        """Open the training rows. ``classes`` are the model's, in output order; None takes them from the data."""
        return self.open_rows(self.config.train, classes)

    def test_rows(self, classes: tuple[str, ...] | None) -> DataRows:
        """Open the test rows."""
        return self.open_rows(self.config.test, classes)

    def trusted_rows(self, classes: tuple[str, ...] | None) -> DataRows | None:
        """Open the trusted rows, if project.yaml names any."""
        return None if self.config.trusted is None else self.open_rows(self.config.trusted, classes)

    def open_rows(self, source: RowSource, classes: tuple[str, ...] | None) -> DataRows:
        """Open the rows of one source of this project. Raises DataError where they are wrong."""
        content = CONTENT_OF_TASK[self.config.task]
        return open_rows(source, content, root=self.root, classes=classes, allow_outside=self.allow_outside)

    def load_model(self, *, allow_code: bool = False, checkpoint: str | None = None) -> AuditModel:
        """Load the model and try it out. ``checkpoint`` is an entry of ``config.checkpoints``: the same model with
        other weights. Code runs if allowed here or by FORWARDINF_ALLOW_CODE. Raises ModelError or ProjectError.
        """
        source = self.config.model
        if checkpoint is not None:
            field = "path" if source.kind in ("baseline", "transformers") else "weights"
            source = source.model_copy(update={field: checkpoint})
        inside(self.root, source.path, "model.path", allow_outside=self.allow_outside)
        if source.weights is not None:
            inside(self.root, source.weights, "model.weights", allow_outside=self.allow_outside)
        if self.config.task == "text-classification":
            return load_text_model(source, root=self.root, sets=self._texts())
        return load_model(source, root=self.root, allow_code=allow_code or is_set(ALLOW_CODE))

    def _texts(self) -> list[TextRows]:
        sources = (self.config.train, self.config.test, self.config.trusted)
        return [texts_of(self.open_rows(source, None)) for source in sources if source is not None]

    def load_diffusion_model(self) -> DiffusionModel:
        """Load the diffusion model. Raises ModelError or ProjectError."""
        inside(self.root, self.config.model.path, "model.path", allow_outside=self.allow_outside)
        return load_diffusion(self.config.model, root=self.root)


def open_project(folder_or_demo: str | Path, *, allow_outside: bool = False) -> Project:
    """Open a project and check project.yaml; neither rows nor model are read.

    ``demo:NAME`` is a demo project, which must have been built. ``allow_outside`` (or
    FORWARDINF_ALLOW_OUTSIDE_PATHS=1) lets paths leave the project folder. Raises ProjectError with what is wrong.
    """
    path = locate(folder_or_demo)
    config = parse_config(read_yaml(path), path.name)
    project = Project(path.parent, config, allow_outside or is_set(ALLOW_OUTSIDE))
    for field, given in project_paths(config):
        inside(project.root, given, field, allow_outside=project.allow_outside)
    return project


def locate(folder_or_demo: str | Path) -> Path:
    """Return the absolute path of project.yaml. Raises ProjectError that says what is there instead."""
    text = str(folder_or_demo)
    if text.startswith(DEMO_PREFIX):
        name = text.removeprefix(DEMO_PREFIX)
        if name not in DEMOS:
            near = difflib.get_close_matches(name, DEMOS, n=1)
            raise ProjectError(
                f"There is no demo called {name}.",
                hint=(f"Did you mean {near[0]}? " if near else "") + f"Demos: {', '.join(DEMOS)}.",
            )
        folder = demo_folder(name)
        if not (folder / FILE_NAME).is_file():
            raise ProjectError(
                f"The demo {name} has not been built yet.",
                hint=f"Build it: python -m forwardinf_core demo build {name}",
            )
    else:
        folder = Path(text).expanduser()
        if folder.name == FILE_NAME and folder.is_file():
            folder = folder.parent
    if not folder.is_dir():
        raise ProjectError(f"There is no folder {folder}.", hint="Give a folder with project.yaml, or demo:digits.")
    path = folder.resolve() / FILE_NAME
    if not path.is_file():
        similar = sorted(p.name for p in folder.iterdir() if p.suffix in (".yaml", ".yml"))
        raise ProjectError(
            f"{folder} has no {FILE_NAME}.",
            hint=f"Found {', '.join(similar[:3])}; rename it to {FILE_NAME}."
            if similar
            else "Every project needs one.",
        )
    return path


def project_paths(config: ProjectConfig) -> list[tuple[str, str]]:
    """Return every path project.yaml names with its field."""
    sources = {"train": config.train, "test": config.test, "trusted": config.trusted}
    named = [("model.path", config.model.path), ("model.weights", config.model.weights)]
    named += [(f"{field}.path", source.path) for field, source in sources.items() if source is not None]
    named += [(f"checkpoints.{index}", path) for index, path in enumerate(config.checkpoints)]
    return [(field, path) for field, path in named if path is not None]
