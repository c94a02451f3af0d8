r"""What a mirrored step is: the change of the parameters, how it was made, and how scores are read from it.

δ is always written in the ascent sense: θ̂ + δ raises the query's loss. A score is a weighted sum of the row's loss
changes on the sides of θ̂ that the direction visits, so that positive always means that the row helped the query.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from forwardinf_core.errors import AuditError
from forwardinf_core.influence.network import Network, Parameters, moved

Direction = Literal["ascent", "descent", "central", "absolute"]


@dataclass(frozen=True, slots=True)
class Side:
    """One place where the rows are evaluated: θ̂ + sign · δ, whose loss change counts ``weight`` times."""

    sign: float
    weight: float


SIDES: dict[Direction, tuple[Side, ...]] = {
    "ascent": (Side(1.0, 1.0),),
    "descent": (Side(-1.0, -1.0),),
    "central": (Side(1.0, 0.5), Side(-1.0, -0.5)),
    "absolute": (Side(1.0, 1.0),),  # the released recipe: the size of the change, without its sign
}


@dataclass(frozen=True, slots=True)
class StepOptions:
    """How a step is made, stored beside the scores it produced.

    With a ``rise`` the step is as long as raises the query's unsaturated loss by that much (mean over its
    rows); without one, ``learning_rate`` is the step length as it stands. K > 1 steps are taken with
    ``learning_rate`` and their total is scaled to the rise. ``damping`` is that of the curvature.
    """

    method: Literal["sgd", "adam", "curvature"] = "sgd"
    direction: Literal["ascent", "descent", "central"] = "ascent"
    steps: int = 1
    learning_rate: float = 1e-3
    rise: float | None = 0.1
    damping: float = 1e-3
    unsaturated: bool = True  # gradient of the unsaturated loss, useful where the query is fitted; else of the loss

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise AuditError(f"A step cannot be taken {self.steps} times.", hint="steps is 1 or more.")
        if self.method == "curvature" and self.steps > 1:
            raise AuditError(f"A curvature step is taken once, not {self.steps} times.", hint="Use steps = 1.")
        if self.rise is not None and not 0 < self.rise < float("inf"):
            raise AuditError(
                f"The query's loss cannot be made to rise by {self.rise}.", hint="rise is above 0, or None."
            )
        if not 0 <= self.learning_rate < float("inf"):
            raise AuditError(f"{self.learning_rate} is no step length.", hint="learning_rate is 0 or more.")


@dataclass(frozen=True, slots=True)
class ReleasedOptions:
    """The released Forward-INF recipe; the sphere is a re-draw's distance in normalised input."""

    learning_rate: float = 5e-3
    radius: float = 3.0
    growth: float = 1.1  # of the radius after each failed re-draw
    max_redraws: int = 50  # radius 3 · 1.1⁵⁰ ≈ 350, far outside any normalised image
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Update:
    """The result of a step on one query.

    ``changes`` is δ by parameter name, only what moved. ``buffers`` are the whole new values of buffers that the
    released recipe's training mode changed. ``loss_before`` and ``loss_after`` are the query's mean objective loss at
    θ̂ and where the step ended (the ascent side for ``central``). ``rise`` is the change of the query's mean
    unsaturated loss that was reached, positive for every direction. ``step_length`` is the factor before the
    direction; for K > 1 the learning rate times the scale of the total.
    """

    changes: Parameters
    direction: Direction
    loss_before: float
    loss_after: float
    rise: float
    step_length: float
    options: StepOptions | ReleasedOptions
    buffers: Parameters = field(default_factory=dict)
    redraws: int = 0  # times the released recipe drew the query's input anew


def moved_parameters(network: Network, update: Update, sign: float = 1.0) -> Parameters:
    """Return θ̂ + sign · δ and the changed buffers, ready for ``network.outputs``."""
    return moved(network.parameters, update.changes, sign) | update.buffers
