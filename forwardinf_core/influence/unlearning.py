r"""Bounded unlearning: K small Adam steps that raise the query's loss and hold that of other training rows.

The objective of a step is  L_rest(θ) − min(L_query(θ), bound): once the query's loss has risen to the bound, only the
retaining term is left, so the model is never wrecked (after MUCS). Scores are then read as the change
of each row's loss, or its normalised skew.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from forwardinf_core.errors import ModelError
from forwardinf_core.influence.network import Network, losses, moved
from forwardinf_core.influence.objective import Batch
from forwardinf_core.influence.step import Adam, query_gradient, query_loss
from forwardinf_core.influence.update import StepOptions, Update


def unlearn(network: Network, query: Batch, rest: Callable[[int], Batch], options: StepOptions) -> Update:
    """Return the update after ``options.steps`` steps; ``rest(step)`` gives the rows to hold, seeded by the caller.

    ``options.rise`` is the bound: how far the query's mean loss may rise. Raises ModelError if it does not rise.
    """
    assert options.rise is not None
    before = query_loss(network, network.parameters, query)
    adam = Adam()
    total = {name: torch.zeros_like(value) for name, value in network.parameters.items()}
    for step in range(options.steps):
        at = moved(network.parameters, total)
        held = rest(step)
        n_held = len(next(iter(held.values())))
        gradient = {
            name: value / n_held for name, value in query_gradient(network, held, unsaturated=False, at=at)[1].items()
        }
        risen = query_loss(network, at, query) - before
        if risen < options.rise:
            up = query_gradient(network, query, unsaturated=False, at=at)[1]
            n_query = len(next(iter(query.values())))
            gradient = {name: gradient[name] - up[name] / n_query for name in gradient}
        direction = adam.direction(gradient)
        total = {name: torch.sub(total[name], direction[name], alpha=options.learning_rate) for name in total}
    after = query_loss(network, moved(network.parameters, total), query)
    if after <= before:
        raise ModelError(
            "Unlearning did not raise the query's loss.", hint="Take more steps or a larger learning rate."
        )
    return Update(total, "ascent", before, after, after - before, options.learning_rate, options)


def mean_loss(network: Network, query: Batch) -> float:
    """Return the mean loss of the unchanged network on the rows."""
    with torch.no_grad():
        return float(losses(network, network.parameters, query).double().mean())
