"""Where a project's caches, runs and database are: in .audit beside project.yaml, which may be deleted any time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

AUDIT_FOLDER = ".audit"


@dataclass(frozen=True)
class ProjectFolder:
    """A project as the store sees it, for whoever needs neither its rows nor its model."""

    root: Path  # absolute, links followed

    @property
    def audit_dir(self) -> Path:
        return audit_dir(self.root)


def audit_dir(root: Path) -> Path:
    """Return the folder of a project's caches, runs and database."""
    return root / AUDIT_FOLDER
