"""The traffic lights: every check of a project, lit by what is stored, grey where nobody has made it yet."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from forwardinf_core.audits.audit import Audit
from forwardinf_core.errors import AuditError
from forwardinf_core.verification.canaries import CanaryOptions, canary_options, stored_canaries
from forwardinf_core.verification.checks import Light, Verdict, at_least
from forwardinf_core.verification.controls import instant_controls
from forwardinf_core.verification.fidelity import latest_lds
from forwardinf_core.verification.hypothesis import latest_hypothesis
from forwardinf_core.verification.removal import list_removals

CANARIES, REMOVAL, LDS, HYPOTHESIS = "canaries", "removal", "lds", "hypothesis"
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


BRIEF = {
    "unchanged": "Score of a model that did not move: 0, or no score is to be trusted.",
    "randomised": "Agreement with a shuffled model: near 0, scores come from what was learned.",
    "step": "Agreement with a step 3 times longer or shorter: near 1, it does not matter.",
    "dtype": "Agreement with double precision: near 1, rounding does not matter.",
    "overlap": "Top rows that two different questions share: few, answers are about the query.",
    "copies": "Planted copies of test rows among what helped them most.",
    "wrong-labels": "Planted wrong labels among what hurt the test rows most.",
    HYPOTHESIS: "Rows on queries against queries on rows, both by retraining: near 1, they agree.",
}
"""One line for the summary; the Verify screen says more."""


def brief(light: Light) -> Light:
    """Return a light with its sentence cut to one line."""
    return replace(light, meaning=BRIEF.get(light.name, light.meaning)) if light.colour != "grey" else light


def stamp(audit: Audit) -> str:
    """Return a text that changes whenever a check of the project is made or deleted."""
    folder = audit.project.audit_dir / "runs"
    kinds = (CANARIES, REMOVAL, LDS, HYPOTHESIS, "controls")
    return " ".join(sorted(path.name for kind in kinds for path in folder.glob(f"{kind}-*")))


def lights(audit: Audit) -> tuple[Light, ...]:
    """Return the lights of a project. The head's controls are made now where they are not stored: about a second."""
    found = (*control_lights(audit), *canary_lights(audit), removal_light(audit), fidelity_light(audit))
    return (*found, hypothesis_light(audit)) if audit.content == "image" else found


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
    meaning = "Queries that became harder when their most helpful rows were removed and the model retrained."
    rule = "Green: at least 80% of the checks hold. Amber: at least half. Red: fewer."
    return Light(name, title, at_least(share, 0.8, 0.5), f"{held} of {len(found)}", meaning, rule, REMOVAL)


def fidelity_light(audit: Audit) -> Light:
    """Return the light of the linear datamodelling score."""
    title = "Fidelity"
    found = latest_lds(audit)
    if found is None:
        return Light.grey(LDS, title, "Scores should predict what training on half of the rows does.", LDS)
    share = found.lds / found.ceiling if np.isfinite(found.ceiling) and found.ceiling > 0 else float("nan")
    colour: Verdict = "red" if not found.low > 0 else "green" if share >= 0.25 else "amber"
    meaning = f"Rank correlation of {found.method} with retraining on halves of the rows" + (
        f"; a perfect prediction would reach {found.ceiling:.2f}." if np.isfinite(found.ceiling) else "."
    )
    rule = (
        "Green: the 95% interval lies above 0 and a quarter of the noise ceiling is reached. Amber: it lies above 0. "
        "Red: it does not."
    )
    return Light(LDS, title, colour, f"{found.lds:.2f}", meaning, rule, LDS)


def hypothesis_light(audit: Audit) -> Light:
    """Return the light of the mirrored influence hypothesis on the project's own rows."""
    title = "Mirrored influence"
    found = latest_hypothesis(audit.project, "convex")
    if found is None:
        meaning = "Learning the query should move the rows as learning the rows moves the query."
        return Light.grey(HYPOTHESIS, title, meaning, HYPOTHESIS)
    meaning = "Correlation of what learning a row does to the query with what learning the query does to the row."
    rule = "Green: at least 0.9, mean over queries of highest loss and random ones. Amber: at least 0.7. Red: less."
    colour = at_least(found.pearson, 0.9, 0.7)
    return Light(HYPOTHESIS, title, colour, f"{found.pearson:.3f}", meaning, rule, HYPOTHESIS)


def _asked(audit: Audit) -> list[CanaryOptions]:
    found = []
    for scope in ("model", "head"):
        try:
            found.append(canary_options(audit, scope))
        except AuditError:
            continue  # this project has no such canaries
    return found
