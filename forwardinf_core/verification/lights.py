"""The traffic lights: every check of a project, lit by what is stored, grey where nobody has made it yet."""

from __future__ import annotations

from forwardinf_core.audits.audit import Audit
from forwardinf_core.verification.checks import Light
from forwardinf_core.verification.controls import instant_controls

CANARIES = "canaries"
CONTROLS = (
    ("unchanged", "Unchanged model", "Rows must score exactly 0 where nothing moved."),
    ("randomised", "Randomised weights", "The ranking must change where the model has learned nothing."),
    ("step", "Step length", "The ranking should not depend on how long the step is."),
    ("overlap", "Unrelated queries", "Different questions should have different answers."),
)


def lights(audit: Audit) -> tuple[Light, ...]:
    """Return the lights of a project. The head's controls are made now where they are not stored: about a second."""
    return control_lights(audit)


def control_lights(audit: Audit) -> tuple[Light, ...]:
    """Return the lights of the controls."""
    found = instant_controls(audit)
    if found is None:
        return tuple(Light.grey(name, title, meaning, CANARIES) for name, title, meaning in CONTROLS)
    return tuple(Light.lit(check, CANARIES) for check in found)
