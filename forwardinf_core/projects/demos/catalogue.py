"""The demo projects there are: how each is built, and the version that this program builds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from forwardinf_core.projects.demos import digits, facts, painter
from forwardinf_core.projects.demos.building import Report, is_built
from forwardinf_core.projects.places import demo_folder


@dataclass(frozen=True, slots=True)
class Demo:
    """One demo. ``build(folder, report)`` makes it whole or not at all, and leaves one of this version as it is."""

    name: str
    version: int
    build: Callable[[Path, Report], None]
    task: str

    @property
    def is_there(self) -> bool:
        """Say whether it is built, by this version."""
        return is_built(demo_folder(self.name), self.name, self.version)


CATALOGUE: dict[str, Demo] = {
    demo.name: demo
    for demo in (
        Demo(digits.DEMO, digits.VERSION, digits.build_digits, "image-classification"),
        Demo(facts.DEMO, facts.VERSION, facts.build_facts, "causal-lm"),
        Demo(painter.DEMO, painter.VERSION, painter.build_painter, "diffusion"),
    )
}
