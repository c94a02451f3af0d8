"""The traffic lights: every check of a project, lit by what is stored, grey where nobody has made it yet."""

from __future__ import annotations

import numpy as np

from forwardinf_core.audits.audit import Audit
from forwardinf_core.errors import AuditError
from forwardinf_core.verification.canaries import CanaryOptions, canary_options, stored_canaries
from forwardinf_core.verification.checks import Light, at_least
from forwardinf_core.verification.controls import instant_controls
from forwardinf_core.verification.removal import list_removals

CANARIES, REMOVAL = "canaries", "removal"
CONTROLS = (
    ("unchanged", "Unchanged model", "Rows must score exactly 0 where nothing moved."),
    ("randomised", "Randomised weights", "The ranking must change where the model has learned nothing."),
    ("step", "Step length", "The ranking should not depend on how long the step is."),
    ("overlap", "Unrelated queries", "Different questions should have different answers."),
)
PLANTED = (
    ("copies", "Planted copies", "Copies of test rows, planted in a copy of the training rows, should be found."),
    ("wrong-labels", "Planted wrong labels", "Labels made wrong in a copy of the rows should be found as harmful."),
)


def lights(audit: Audit) -> tuple[Light, ...]:
    """Return the lights of a project. The head's controls are made now where they are not stored: about a second."""
    return (*control_lights(audit), *canary_lights(audit), removal_light(audit))


def control_lights(audit: Audit) -> tuple[Light, ...]:
    """Return the lights of the controls."""
    found = instant_controls(audit)
    if found is None:
        return tuple(Light.grey(name, title, meaning, CANARIES) for name, title, meaning in CONTROLS)
    return tuple(Light.lit(check, CANARIES) for check in found)


def canary_lights(audit: Audit) -> tuple[Light, ...]:
    """Return the lights of the canaries, of the whole network where that was trained, else of the head."""
    known = {}
    for options in _asked(audit):
        known = {check.name: check for check in stored_canaries(audit, options) or ()}
        if known:
            break
    return tuple(
        Light.lit(known[name], CANARIES) if name in known else Light.grey(name, title, meaning, CANARIES)
        for name, title, meaning in PLANTED
    )


def removal_light(audit: Audit) -> Light:
    """Return the light of all answers that were checked by retraining."""
    name, title = REMOVAL, "Answers that hold"
    found = list_removals(audit)
    if not found:
        meaning = "Retrained without the rows that helped most, a query should become harder."
        return Light.grey(name, title, meaning, REMOVAL)
    held = sum(one.verdict == "green" for one in found)
    share = float(np.mean([one.verdict == "green" for one in found]))
    meaning = (
        "Checks in which the model, retrained without the most helpful rows, found the query surely harder than "
        "without random ones."
    )
    rule = "Green: at least 80% of the checks hold. Amber: at least half. Red: fewer."
    return Light(name, title, at_least(share, 0.8, 0.5), f"{held} of {len(found)}", meaning, rule, REMOVAL)


def _asked(audit: Audit) -> list[CanaryOptions]:
    found = []
    for scope in ("model", "head"):
        try:
            found.append(canary_options(audit, scope))
        except AuditError:
            continue  # this project has no such canaries
    return found
