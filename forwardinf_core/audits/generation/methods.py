"""The named ways to trace a generated image, and what each means in plain words."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Literal

from forwardinf_core.errors import AuditError

Step = Literal["ekfac", "diagonal", "sgd", "adam", "unlearn", "released"]
Form = Literal["change", "skew"]


@dataclass(frozen=True, slots=True)
class Method:
    """Every option of one way to trace; stored beside the scores it made.

    ``rise`` is how far the step raises the query's mean loss, as a share of it; ``draws`` and ``query_draws`` are how
    many noise levels a training image and the query are looked at. The images that helped and hurt most, a share
    ``second_share`` at each end, are then looked at again at ``second_draws`` other ones, which replace the first (0:
    not again); those at the ends of what comes of that, ``third_share``, once more at ``third_draws``. ``parameters``
    are names or patterns of what may move, with commas. The form ``skew`` divides the change by the sum of the losses,
    draw by draw.
    """

    name: str
    step: Step
    form: Form = "change"
    direction: Literal["ascent", "descent", "central"] = "ascent"
    steps: int = 1
    learning_rate: float = 1e-3
    rise: float = 0.02
    damping: float = 1e-3
    draws: int = 10
    query_draws: int = 100
    second_draws: int = 100
    second_share: float = 0.03
    third_draws: int = 0
    third_share: float = 0.005
    seed: int = 0
    parameters: str | None = None
    shortlist: float | None = None  # share of rows, nearest by features, that the pass is limited to

    def options(self) -> dict[str, str | int | float | bool | None]:
        """Return every option by name, as stored and shown."""
        return asdict(self)

    @property
    def looks(self) -> tuple[tuple[float, int], ...]:
        """Return the further looks in order: the share of the images at each end, and how many draws of each."""
        return tuple(
            (share, draws)
            for share, draws in ((self.second_share, self.second_draws), (self.third_share, self.third_draws))
            if draws
        )


METHODS: dict[str, Method] = {
    "unlearn": Method(
        "unlearn", "unlearn", "skew", steps=60, learning_rate=1e-4, rise=1.0, second_share=0.05, third_draws=400
    ),
    "ekfac": Method("ekfac", "ekfac"),
    "diagonal": Method("diagonal", "diagonal", damping=0.1),
    "sgd": Method("sgd", "sgd"),
    "adam": Method("adam", "adam"),
    "forward-inf": Method("forward-inf", "released", learning_rate=5e-3, second_draws=0),
}
DEFAULT = "unlearn"  # found more planted exemplars, and removed more, on pictures to choose by: docs/generation.md
TITLES = {
    "ekfac": "Curvature step (EK-FAC)",
    "diagonal": "Diagonal curvature step",
    "unlearn": "Bounded unlearning",
    "sgd": "Plain gradient step",
    "adam": "Adam step",
    "forward-inf": "Forward-INF as released",
}
PLAIN_WORDS = {
    "ekfac": "Moves the model a little away from this image, along the directions its training data leaves free, "
    "then looks whose error grew.",
    "diagonal": "As the curvature step, with one strength for each weight instead of for whole directions.",
    "unlearn": "Makes the model forget this image in sixty small steps while it keeps the rest, then compares errors.",
    "sgd": "One plain gradient step: the product of two gradients.",
    "adam": "One Adam step: every weight moves equally far.",
    "forward-inf": "The recipe of the paper's released code: one Adam step, size of the change without its sign.",
}


def method_named(name: str | None, **changes: object) -> Method:
    """Return the method with this name (None: the default), with single options changed.

    Raises AuditError that lists the names, or says which option makes no sense.
    """
    if (name or DEFAULT) not in METHODS:
        raise AuditError(f"There is no method ‘{str(name)[:60]}’ here.", hint=f"Methods: {', '.join(METHODS)}.")
    method = replace(METHODS[name or DEFAULT], **changes)  # type: ignore[arg-type]  # checked by dataclasses.replace
    if not 0 < method.rise < float("inf"):
        raise AuditError(f"The query's loss cannot be made to rise by {method.rise}.", hint="rise is above 0.")
    if method.draws < 1 or method.query_draws < 1:
        raise AuditError("An image cannot be looked at less than once.", hint="draws are 1 or more.")
    again = ((method.second_draws, method.second_share), (method.third_draws, method.third_share))
    if any(draws < 0 or not 0 <= share <= 0.5 for draws, share in again):
        raise AuditError(
            "Images cannot be looked at again like this.",
            hint="second_draws and third_draws are 0 or more, second_share and third_share up to 0.5.",
        )
    if method.shortlist is not None and not 0 < method.shortlist <= 1:
        raise AuditError(f"{method.shortlist} is no share of the rows.", hint="shortlist is above 0, up to 1.")
    if method.direction == "descent" and method.step in ("unlearn", "released"):
        raise AuditError(f"The method {method.name} goes up only.", hint="Use ascent, or another method.")
    return method
