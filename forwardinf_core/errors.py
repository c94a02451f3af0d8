"""The errors a person may see: each says what went wrong in one sentence, and what to do next in another.

Everything below the screen raises these; pages and the command line print ``title`` and ``hint`` and nothing else.
Any other exception is our fault and is shown as such.
"""

from __future__ import annotations


class AuditError(Exception):
    """A mistake the person can mend. ``title`` says what went wrong, ``hint`` what to do next."""

    def __init__(self, title: str, *, hint: str = "") -> None:
        super().__init__(f"{title} {hint}".strip())
        self.title = title
        self.hint = hint

    def __reduce__(self) -> tuple[object, tuple[str], dict[str, str]]:
        return (self.__class__, (self.title,), {"title": self.title, "hint": self.hint})


class ProjectError(AuditError):
    """project.yaml or what it points to is wrong."""


class DataError(AuditError):
    """Rows, images, texts or labels are wrong."""


class ModelError(AuditError):
    """The model, its weights or its outputs are wrong."""


class CodeRefusedError(ModelError):
    """Opening the model would run code, which the person who started this process has not allowed."""


class ShapeError(AuditError):
    """Two things that must have the same axes do not."""


class StoreError(AuditError):
    """Something on disk is missing, damaged, full or belongs to another model or data set."""


class DiskFullError(StoreError):
    """A file could not be written for want of room; the work can go on once there is some."""


class RunNotFoundError(StoreError):
    """No finished run has this id."""


class JobError(AuditError):
    """Long work could not be started, or stopped."""


class CancelledError(AuditError):
    """The person asked for the work to stop."""
