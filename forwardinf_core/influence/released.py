r"""The Forward-INF recipe as its authors released it (Ko et al. 2024, notebook of the leakage experiment).

One ascent step of a fresh Adam on the mean loss of the query taken twice, in training mode, read as the absolute
difference of each row's loss, both in eval mode. Kept as a named option and a point of comparison: training mode
changes the running statistics of BatchNorm, so its scores are not zero even for a step of length zero.

A query that the model has fitted is drawn anew on a sphere around its input until its loss is worth a step. The
notebook compares the mean loss divided by the doubled batch's size, 2, with 5e-3 and 1e-2; the constants here are the
mean losses. Its loop is endless and unseeded; this one is neither.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from forwardinf_core.errors import ModelError
from forwardinf_core.influence.calibration import unsaturated_loss
from forwardinf_core.influence.network import FullNetwork, Parameters
from forwardinf_core.influence.objective import Batch
from forwardinf_core.influence.step import Adam, query_gradient, query_loss
from forwardinf_core.influence.update import ReleasedOptions, Update

FITTED = 1e-2  # mean training-mode loss below which the query is drawn anew
WORTH_A_STEP = 2e-2  # mean training-mode loss from which a re-drawn query is taken


def released_update(network: FullNetwork, query: Batch, options: ReleasedOptions | None = None) -> Update:
    """Return the released recipe's update of all movable parameters, with the buffers it changed.

    The step runs on a deep copy of the module; the network's own module is only read. Dropout draws from torch's
    generator, forked and seeded with ``options.seed`` for the length of the step. Raises ModelError for a fitted query
    that cannot be drawn anew (not a single floating-point input ``x``) or was without success ``max_redraws`` times.
    """
    options = options or ReleasedOptions()
    devices = sorted({value.get_device() for value in network.parameters.values() if value.is_cuda})
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(options.seed)
        changes, buffers, redraws = _step_worth_taking(network, query, options)
    after = {name: network.parameters[name] + change for name, change in changes.items()} | buffers
    return Update(
        changes=changes,
        direction="absolute",
        loss_before=query_loss(network, network.parameters, query),
        loss_after=query_loss(network, after, query),
        rise=unsaturated_loss(network, after, query) - unsaturated_loss(network, network.parameters, query),
        step_length=options.learning_rate,
        options=options,
        buffers=buffers,
        redraws=redraws,
    )


def _step_worth_taking(
    network: FullNetwork, query: Batch, options: ReleasedOptions
) -> tuple[Parameters, Parameters, int]:
    loss, changes, buffers = _one_step(network, query, options.learning_rate)
    if loss >= FITTED:
        return changes, buffers, 0
    inputs = _redrawable(query, loss)
    generator = torch.Generator().manual_seed(options.seed)
    radius = options.radius
    for redraw in range(1, options.max_redraws + 1):
        drawn = query | {"x": _on_sphere(inputs, radius, generator)}
        loss, changes, buffers = _one_step(network, drawn, options.learning_rate)
        if loss >= WORTH_A_STEP:
            return changes, buffers, redraw
        radius *= options.growth
    raise ModelError(
        f"The query's loss stayed below {WORTH_A_STEP:g} in {options.max_redraws} re-draws around its input.",
        hint="The released recipe cannot step on a query that is fitted so well; use another method.",
    )


def _one_step(network: FullNetwork, query: Batch, learning_rate: float) -> tuple[float, Parameters, Parameters]:
    """Return the mean training-mode loss before the step, the parameters' changes, and the buffers that changed."""
    module = copy.deepcopy(network.module).train()
    twin = FullNetwork(module, network.objective, list(network.parameters))
    doubled = {name: torch.cat([value, value]) for name, value in query.items()}
    n_rows = len(next(iter(doubled.values())))
    total_loss, gradient = query_gradient(twin, doubled, unsaturated=False)
    mean_gradient = {name: value / n_rows for name, value in gradient.items()}
    changes = {name: value * learning_rate for name, value in Adam().direction(mean_gradient).items()}
    buffers = {
        name: value
        for (name, value), before in zip(module.named_buffers(), network.module.buffers(), strict=True)
        if value.is_floating_point() and not torch.equal(value, before)
    }
    return total_loss / n_rows, changes, buffers


def _redrawable(query: Batch, loss: float) -> Tensor:
    floating = [name for name, value in query.items() if value.is_floating_point()]
    if floating != ["x"]:
        raise ModelError(
            f"The query's loss is {loss:.2g}, and the released recipe cannot draw this kind of input anew.",
            hint=f"It needs one input of real numbers named x; this query has {', '.join(query)}. Use another method.",
        )
    return query["x"]


def _on_sphere(inputs: Tensor, radius: float, generator: torch.Generator) -> Tensor:
    """Return each row moved by ``radius`` in a direction drawn uniformly."""
    noise = torch.randn(inputs.shape, generator=generator, dtype=torch.float32).to(inputs)
    lengths = torch.linalg.vector_norm(noise.flatten(1), dim=1).reshape(-1, *[1] * (inputs.ndim - 1))
    drawn: Tensor = inputs + noise * (radius / lengths)
    return drawn
