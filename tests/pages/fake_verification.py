"""Stand-ins for what verification has found, for tests of the screens."""

from __future__ import annotations

from forwardinf_core.verification.checks import Check, Light
from forwardinf_core.verification.lights import CANARIES


def fake_check(name: str = "unchanged", title: str = "Unchanged model", **changes: object) -> Check:
    """Return a check that came out well, with some of it changed."""
    fields: dict[str, object] = {
        "name": name,
        "title": title,
        "verdict": "green",
        "figure": 0.0,
        "shown": "exactly 0",
        "meaning": "Nothing but the step makes a score.",
        "rule": "Green: exactly 0.",
    }
    return Check(**{**fields, **changes})  # type: ignore[arg-type]  # names of the fields of Check


def fake_lights() -> tuple[Light, ...]:
    """Return a lit light and a grey one."""
    return (
        Light.lit(fake_check(), CANARIES),
        Light.grey("overlap", "Unrelated queries", "Different questions should have different answers.", CANARIES),
    )
