"""Where this person's own data lies on this machine, and which paths a project may point to."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from forwardinf_core.errors import ProjectError

ALLOW_OUTSIDE = "FORWARDINF_ALLOW_OUTSIDE_PATHS"
ALLOW_CODE = "FORWARDINF_ALLOW_CODE"


def user_folder() -> Path:
    """Return the folder of demo projects and of this machine's state: FORWARDINF_HOME, or the platform's usual one."""
    chosen = os.environ.get("FORWARDINF_HOME")
    if chosen:
        return Path(chosen).expanduser().resolve()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "forwardinf"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "forwardinf"
    return Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local" / "share")) / "forwardinf"


def demo_folder(name: str) -> Path:
    """Return where the demo project of this name is, or will be built."""
    return user_folder() / "demos" / name


def is_set(variable: str) -> bool:
    """Say whether the person who started the program set an environment variable to yes."""
    return os.environ.get(variable, "").strip().lower() in ("1", "true", "yes", "on")


def inside(root: Path, path: str, field: str, *, allow_outside: bool) -> Path:
    """Return ``path`` under ``root``, links followed. Raises ProjectError where it leaves the project folder."""
    resolved = (root / path).resolve()
    if not allow_outside and not resolved.is_relative_to(root.resolve()):
        raise ProjectError(
            f"{field} is {path}, which lies outside the project folder.",
            hint=f"Move it into {root}, or allow other folders with {ALLOW_OUTSIDE}=1.",
        )
    return resolved


def allow_code_here() -> None:
    """Let adapters run in this process and in those it starts, because the person who started it said so."""
    os.environ[ALLOW_CODE] = "1"
