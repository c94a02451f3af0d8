"""What a check found wrong, collected so that all of it can be told at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from forwardinf_core.errors import AuditError


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. An error stops every run, a warning stops none. ``where`` is a part of project.yaml."""

    level: Literal["error", "warning"]
    where: str
    title: str
    hint: str


class Findings:
    """Collects problems; ``trying`` turns what a person can mend into one and goes on."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def add(self, level: Literal["error", "warning"], where: str, title: str, hint: str = "") -> None:
        """Record a problem."""
        self.problems.append(Problem(level, where, title, hint))

    @contextmanager
    def trying(self, where: str) -> Iterator[None]:
        """Record an error that is raised inside, and go on."""
        try:
            yield
        except AuditError as error:
            self.add("error", where, error.title, error.hint)
