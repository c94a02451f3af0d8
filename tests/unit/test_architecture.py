"""The house rules that a machine can check: which way imports point, and who may import what."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "forwardinf_core"

LAYERS = [
    {"influence"},
    {"models", "datasets"},
    {"projects"},
    {"jobs", "store"},
    {"audits", "verification", "reports"},
    {"ui", "cli", "commands", "benchmarks", "__main__"},
]
"""Lowest first: a module imports from its own layer or from one below."""


def layer_of(package: str) -> int | None:
    return next((level for level, names in enumerate(LAYERS) if package in names), None)


def imports_of(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module, node.lineno


def test_imports_point_downward_only() -> None:
    wrong = []
    for path in CORE.rglob("*.py"):
        own = layer_of(path.relative_to(CORE).parts[0].removesuffix(".py"))
        if own is None:
            continue
        for name, line in imports_of(path):
            parts = name.split(".")
            if parts[0] == "forwardinf_core" and len(parts) > 1:
                other = layer_of(parts[1])
                if other is not None and other > own:
                    wrong.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
    assert not wrong, wrong


def test_every_package_of_the_core_has_a_layer() -> None:
    packages = {path.name for path in CORE.iterdir() if (path / "__init__.py").exists()}
    assert not {name for name in packages if layer_of(name) is None}


def test_streamlit_is_imported_by_the_screen_alone() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in CORE.rglob("*.py")
        if path.relative_to(CORE).parts[0] != "ui"
        for name, line in imports_of(path)
        if name.split(".")[0] == "streamlit"
    ]
    assert not wrong, wrong


def test_pages_do_not_import_torch_or_the_method() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} {name}"
        for path in (ROOT / "pages").rglob("*.py")
        for name, line in imports_of(path)
        if name.split(".")[0] in {"torch", "numpy"} or name.startswith("forwardinf_core.influence")
    ]
    assert not wrong, wrong


def test_the_method_touches_no_files_and_no_other_layer() -> None:
    banned = {"pathlib", "os", "io", "shutil", "tempfile", "logging", "tqdm"}
    wrong = [
        f"{path.relative_to(ROOT)}:{line} {name}"
        for path in (CORE / "influence").rglob("*.py")
        for name, line in imports_of(path)
        if name.split(".")[0] in banned
    ]
    assert not wrong, wrong


def test_modules_beside_the_shell_do_not_shadow_the_standard_library() -> None:
    assert not {path.stem for path in (CORE / "ui").glob("*.py")} & sys.stdlib_module_names


def test_no_module_is_called_utils() -> None:
    assert not [path for path in CORE.rglob("*.py") if path.stem in {"utils", "helpers", "misc", "common"}]


def test_no_module_stands_in_the_shadow_of_a_package_of_its_name() -> None:
    assert not [path for path in CORE.rglob("*.py") if path.with_suffix("").is_dir()]


def test_no_screen_polls_a_script() -> None:
    """The browser asks the web server while something runs (``components/asking.js``), and never otherwise."""
    screens = [*(ROOT / "pages").rglob("*.py"), *(CORE / "ui").rglob("*.py")]
    assert not [path for path in screens if "run_every" in path.read_text()]
