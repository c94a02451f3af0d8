"""What a cache was made from. A cache is read only where all of it is the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from forwardinf_core.errors import StoreError
from forwardinf_core.store.files import sha256

Option = None | bool | int | float | str | list["Option"] | dict[str, "Option"]
"""What JSON can hold."""


@dataclass(frozen=True)
class Binding:
    """Kind of content, fingerprints of what it was made from (model, rows, …), options, and version of its format.

    ``version`` rises when the code would make the content differently; nothing else of an upgrade matters.
    """

    kind: str
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Option] = field(default_factory=dict)
    version: int = 1

    def record(self) -> dict[str, Option]:
        """Return the binding as JSON holds it."""
        content = {
            "kind": self.kind,
            "fingerprints": dict(self.fingerprints),
            "options": dict(self.options),
            "version": self.version,
        }
        result = json.loads(json.dumps(content))
        assert isinstance(result, dict)
        return result

    def key(self) -> str:
        """Return 32 hexadecimal digits that are the same for the same binding and for no other."""
        return sha256(json.dumps(self.record(), sort_keys=True).encode())[:32]

    def check(self, found: object, folder: Path) -> None:
        """Raise StoreError, naming the first difference, where ``found`` is another binding's record."""
        own = self.record()
        if found == own:
            return
        found = found if isinstance(found, dict) else {}
        hint = "Delete that folder; it is a cache and is made anew."
        if found.get("kind") != own["kind"]:
            raise StoreError(f"{folder} holds {found.get('kind')!r}, not {self.kind!r}.", hint=hint)
        if found.get("version") != own["version"]:
            versions = f"version {found.get('version')}, this program writes version {self.version}"
            raise StoreError(f"{folder} was written as {versions}.", hint=hint)
        for part, what in (("fingerprints", "another"), ("options", "another value of")):
            theirs, ours = found.get(part), own[part]
            theirs = theirs if isinstance(theirs, dict) else {}
            assert isinstance(ours, dict)
            for name in sorted({*theirs, *ours}):
                if theirs.get(name) != ours.get(name):
                    values = f"found {_short(theirs.get(name))}, expected {_short(ours.get(name))}"
                    raise StoreError(f"{folder} belongs to {what} {name}: {values}.", hint=hint)


def _short(value: Option) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 24 else f"{text[:12]}…"
