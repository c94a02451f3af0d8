"""PROJECT on the command line as a folder, for commands that need neither its rows nor its model."""

from __future__ import annotations

from pathlib import Path

from forwardinf_core.errors import ProjectError
from forwardinf_core.projects.places import demo_folder
from forwardinf_core.store.places import ProjectFolder

DEMO = "demo:"


def project_folder(given: str) -> ProjectFolder:
    """Return the folder of a project or of a demo. Raises ProjectError where there is none."""
    root = demo_folder(given.removeprefix(DEMO)) if given.startswith(DEMO) else Path(given)
    root = root.expanduser().resolve()
    if not root.is_dir():
        raise ProjectError(f"There is no folder {given!r}.", hint="Give a folder with project.yaml, or demo:NAME.")
    return ProjectFolder(root)
