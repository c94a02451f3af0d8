r"""Step length by the change of the query's own loss: find s > 0 with rise(s) = target.

The rise is the query's own score in the unsaturated loss: U(θ̂ + sδ) − U(θ̂) for ascent, U(θ̂) − U(θ̂ − sδ) for descent,
half of U(θ̂ + sδ) − U(θ̂ − sδ) for central. Forward passes of the query only.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from forwardinf_core.errors import ModelError
from forwardinf_core.influence.network import Network, Parameters, moved
from forwardinf_core.influence.objective import Batch
from forwardinf_core.influence.update import SIDES, Direction

TOLERANCE = 0.01  # of the target; a rise of 0.1 reached as 0.101 moves all scores by the same 1%
MAX_EVALUATIONS = 30  # 2 to 4 are usual; bisection alone narrows a bracket 10⁹ times in 30


def rise_reached(
    network: Network, query: Batch, changes: Parameters, direction: Direction, scale: float = 1.0
) -> float:
    """Return the mean rise of the query rows' unsaturated loss at ``scale`` · δ, positive where the loss goes up.

    NaN or infinite where the moved network's outputs are.
    """
    with torch.no_grad():
        before = _unsaturated(network, network.parameters, query)
        rise = torch.zeros_like(before)
        for side in SIDES[direction]:
            after = _unsaturated(network, moved(network.parameters, changes, side.sign * scale), query)
            rise += side.weight * (after - before)
        return float(rise.mean())


def scale_for_rise(
    network: Network, query: Batch, changes: Parameters, direction: Direction, *, target: float, slope: float
) -> tuple[float, float]:
    """Return (s, rise reached at s) with the rise as near to ``target`` as was found.

    ``slope`` is the rise's derivative at s = 0 and gives the first guess. Ends within TOLERANCE of the target or
    after MAX_EVALUATIONS. Raises ModelError if no length makes the loss go up.
    """

    def rise(scale: float) -> float:
        return rise_reached(network, query, changes, direction, scale)

    guess = target / slope if slope > 0 else math.inf
    scale, reached = _search(rise, target, guess if math.isfinite(guess) else 1.0)
    if reached <= 0:
        raise ModelError(
            "No step length makes the query's loss rise.",
            hint=f"A rise of {target:g} was asked for; try fewer steps, another method, or more damping.",
        )
    return scale, reached


def _search(rise: Callable[[float], float], target: float, first: float) -> tuple[float, float]:
    """Grow until the target is bracketed, then narrow by secant, or by halving where the secant sticks to an end."""
    low, low_rise = 0.0, 0.0
    high, high_rise = math.inf, math.inf
    scale = first
    best, best_rise = first, 0.0
    for _ in range(MAX_EVALUATIONS):
        reached = rise(scale)
        if math.isfinite(reached) and abs(reached - target) < abs(best_rise - target):
            best, best_rise = scale, reached
        if abs(best_rise - target) <= TOLERANCE * target:
            break
        # a fall means that the step overshot, where the rise at 0 points up: shorter, not longer
        if math.isfinite(reached) and (0 < reached < target or (reached <= 0 and first == 1.0)):
            low, low_rise = scale, reached
        else:
            high, high_rise = scale, reached
        scale = _next_scale(low, low_rise, high, high_rise, target)
    return best, best_rise


def _next_scale(low: float, low_rise: float, high: float, high_rise: float, target: float) -> float:
    if math.isinf(high):
        growth = target / low_rise if low_rise > 0 else 10.0
        return low * min(max(growth, 1.5), 10.0)
    share = (target - low_rise) / (high_rise - low_rise) if math.isfinite(high_rise) else 0.5
    if not 0.05 < share < 0.95:
        share = 0.5
    return low + share * (high - low)


def unsaturated_loss(network: Network, parameters: Parameters, query: Batch) -> float:
    """Return the mean unsaturated loss of the query's rows."""
    with torch.no_grad():
        return float(_unsaturated(network, parameters, query).mean())


def _unsaturated(network: Network, parameters: Parameters, query: Batch) -> Tensor:
    return network.objective.unsaturated_losses(network.outputs(parameters, query), query).double()
