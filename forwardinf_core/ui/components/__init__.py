"""Components where Streamlit has none: one folder each, a typed wrapper with its script and style beside it."""

from __future__ import annotations

from pathlib import Path


def beside(folder: Path, name: str) -> str:
    """Return the text of a component's script or style."""
    return (folder / name).read_text(encoding="utf-8")
