"""Reads project.yaml: plain data only, no key twice, no file that cannot be one."""

from __future__ import annotations

from pathlib import Path

import yaml

from forwardinf_core.errors import ProjectError

SIZE_LIMIT_BYTES = 1_000_000  # a thousand class names are 20 kB


class _StrictLoader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """The safe loader, which also refuses a key given twice and anchors (they can blow a file up a million times)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value} is there twice", key.start_mark
                )
            seen.add(str(key.value))
        return dict(super().construct_mapping(node, deep))

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(
                None, None, "references (*name) are not allowed", self.peek_event().start_mark
            )
        return super().compose_node(parent, index)


def read_yaml(path: Path) -> dict[str, object]:
    """Return the mapping a YAML file holds. Raises ProjectError with the line of the mistake."""
    try:
        size = path.stat().st_size
        if size > SIZE_LIMIT_BYTES:
            raise ProjectError(
                f"{path.name} has {size / 1e6:.1f} MB, which no project file needs.",
                hint=f"At most {SIZE_LIMIT_BYTES / 1e6:g} MB are read. Was a data file saved under this name?",
            )
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ProjectError(f"{path.name} is not a text file.", hint="Save it as UTF-8 text.") from error
    except OSError as error:
        raise ProjectError(f"{path} cannot be read: {error.strerror}.", hint="Check its permissions.") from error
    try:
        content = yaml.load(text, Loader=_StrictLoader)  # noqa: S506  # a SafeLoader, made stricter
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ProjectError(f"{path.name} is not valid YAML.", hint=_where(error)) from error
    if not isinstance(content, dict):
        found = "nothing" if content is None else f"a {type(content).__name__}"
        raise ProjectError(
            f"{path.name} holds {found} instead of keys and values.",
            hint="It starts with a line like: name: my-project",
        )
    return {str(key): value for key, value in content.items()}


def _where(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"Line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}: {error.problem}."
    if isinstance(error, RecursionError):
        return "It is nested too deeply."
    return f"{str(error).splitlines()[0]}."
