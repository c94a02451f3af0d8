"""Builds a demo folder as a whole or not at all: in a temporary folder beside it, renamed at the end."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from forwardinf_core.errors import ProjectError

Report = Callable[[float, str], None]
"""Called with the finished fraction (0 … 1) and what is being done."""

MARK_NAME = "demo.json"
ABANDONED_AFTER_S = 3600.0  # a build takes a minute; a temporary folder this old was left by one that was killed


@dataclass(frozen=True, slots=True)
class PlantedLabel:
    """A training row whose label was made wrong on purpose."""

    train_id: str
    label: str
    true_label: str


@dataclass(frozen=True, slots=True)
class PlantedDuplicate:
    """A training row that is a copy of a test row."""

    train_id: str
    test_id: str


@dataclass(frozen=True, slots=True)
class DemoFacts:
    """What is known of a demo because it was put there. ``sentences`` say it in words."""

    demo: str
    origin: str
    sentences: tuple[str, ...]
    wrong_labels: tuple[PlantedLabel, ...]
    duplicates: tuple[PlantedDuplicate, ...]


def is_built(folder: Path, demo: str, version: int) -> bool:
    """Say whether the folder holds this demo as this version of the program builds it."""
    return read_mark(folder) == (demo, version)


def read_mark(folder: Path) -> tuple[str, int] | None:
    """Return name and version of the demo in a folder, or None where it holds none."""
    try:
        content = json.loads((folder / MARK_NAME).read_text(encoding="utf-8"))
        return str(content["demo"]), int(content["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def whole_folder(folder: Path, demo: str, version: int) -> Iterator[Path]:
    """Yield a temporary folder that becomes ``folder`` when the block ends without an error.

    An older demo in its place is replaced, anything else is left alone: ProjectError. When another process has
    finished the same demo meanwhile, its folder stays.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder)
    if folder.exists() and any(folder.iterdir()) and read_mark(folder) is None:
        raise ProjectError(f"{folder} is not empty.", hint="Choose another folder for the demo, or empty this one.")
    building = Path(tempfile.mkdtemp(prefix=f".building-{folder.name}-", dir=folder.parent))
    try:
        yield building
        mark = json.dumps({"demo": demo, "version": version}, indent=2) + "\n"
        (building / MARK_NAME).write_text(mark, encoding="utf-8")
        building.chmod(0o755)  # mkdtemp makes it private
        if not is_built(folder, demo, version):
            if folder.exists():
                folder.rename(building.with_name(f"{building.name}-old"))
            building.rename(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)
        shutil.rmtree(building.with_name(f"{building.name}-old"), ignore_errors=True)


def _remove_abandoned(folder: Path) -> None:
    for left in folder.parent.glob(f".building-{folder.name}-*"):
        if time.time() - left.stat().st_mtime > ABANDONED_AFTER_S:
            shutil.rmtree(left, ignore_errors=True)
