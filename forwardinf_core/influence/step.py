r"""The mirrored step on a query: K steps of SGD or Adam, or one curvature step η(F + λI)⁻¹ g.

Steps run on functional copies in eval mode: the network's own tensors are never written. The optimiser is a
preconditioner: one SGD step makes the scores the gradient dot product, one Adam step the product with sign(g), the
curvature step the influence function.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from forwardinf_core.errors import AuditError, ModelError
from forwardinf_core.influence.calibration import rise_reached, scale_for_rise
from forwardinf_core.influence.curvature.base import Curvature
from forwardinf_core.influence.network import Network, Parameters, RestrictedNetwork, losses, moved
from forwardinf_core.influence.objective import Batch
from forwardinf_core.influence.update import SIDES, StepOptions, Update


def query_gradient(
    network: Network, query: Batch, *, unsaturated: bool = True, at: Parameters | None = None
) -> tuple[float, Parameters]:
    """Return the SUM over the query's rows of its unsaturated losses (or losses), and the gradient of that sum.

    ``at`` replaces the trained parameters; the gradient has its names. The caller's tensors get no ``grad``.
    Raises ModelError if the loss or the gradient is not finite.
    """
    # A cache may have been filled in inference mode: such tensors take part in no gradient, so they are copied.
    with torch.inference_mode(False), torch.enable_grad():
        parameters = {
            name: _ordinary(value).detach().requires_grad_()
            for name, value in (network.parameters if at is None else at).items()
        }
        rows = {name: _ordinary(value).detach() for name, value in query.items()}
        unread = []
        if isinstance(network, RestrictedNetwork):
            unread = [value.requires_grad_() for value in rows.values() if value.is_floating_point()]
        outputs = network.outputs(parameters, rows)
        objective = network.objective
        row_losses = objective.unsaturated_losses(outputs, rows) if unsaturated else objective.losses(outputs, rows)
        total = row_losses.sum()
        value = float(total.detach())
        if not torch.isfinite(total):
            raise ModelError(f"The loss of the query is {value}, not a number to step on.", hint=_CHECK_INPUT)
        # Asked for the weights of a group normalisation and not for its input, PyTorch 2.13's backward pass of
        # channels-last images writes the input's gradient to nowhere and ends the process: so inputs are asked for too.
        asked = [*parameters.values(), *unread]
        gradients = torch.autograd.grad(total, asked, materialize_grads=True)[: len(parameters)]
    if not all(bool(torch.isfinite(gradient).all()) for gradient in gradients):
        raise ModelError("The gradient of the query's loss is not finite.", hint=_CHECK_INPUT)
    return value, dict(zip(parameters, gradients, strict=True))


def take_steps(
    network: Network, queries: Sequence[Batch], options: StepOptions, curvature: Curvature | None = None
) -> list[Update]:
    """Return one update for each query; a curvature solves all of them in one call.

    A learning rate of 0 without a rise gives the unchanged model, on which every row scores exactly 0. Raises
    ModelError for a query whose gradient is exactly zero, whose loss or gradient is not finite, or whose loss cannot
    be made to rise.
    """
    if (options.method == "curvature") != (curvature is not None):
        raise AuditError(
            f"The step ‘{options.method}’ was asked for {'without' if curvature is None else 'with'} a curvature.",
            hint="Fit a curvature for the step ‘curvature’, and only for that.",
        )
    gradients = [query_gradient(network, query, unsaturated=options.unsaturated)[1] for query in queries]
    for gradient in gradients:
        _refuse_zero(gradient)
    if curvature is not None:
        solved = curvature.solve(gradients, damping=options.damping)
        totals = [_times(direction, options.learning_rate) for direction in solved]
    else:
        totals = [_path(network, query, gradient, options) for query, gradient in zip(queries, gradients, strict=True)]
    return [
        _finish(network, query, gradient, total, options)
        for query, gradient, total in zip(queries, gradients, totals, strict=True)
    ]


class Adam:
    r"""Adam's direction m̂ / (√v̂ + ε), as a function of the gradients given so far (Kingma & Ba 2015).

    The same as torch.optim.Adam with its default options, without its start-up cost of seconds and its in-place writes.
    """

    BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8

    def __init__(self) -> None:
        self._first: Parameters = {}
        self._second: Parameters = {}
        self._count = 0

    def direction(self, gradients: Parameters) -> Parameters:
        """Return the direction after one more gradient."""
        self._count += 1
        first_correction = 1 - self.BETA1**self._count
        second_correction = 1 - self.BETA2**self._count
        directions = {}
        for name, gradient in gradients.items():
            zero = torch.zeros_like(gradient)
            self._first[name] = torch.lerp(self._first.get(name, zero), gradient, 1 - self.BETA1)
            self._second[name] = self.BETA2 * self._second.get(name, zero) + (1 - self.BETA2) * gradient.square()
            root = (self._second[name] / second_correction).sqrt() + self.EPSILON
            directions[name] = self._first[name] / first_correction / root
        return directions


def _path(network: Network, query: Batch, gradient: Parameters, options: StepOptions) -> Parameters:
    """Return the total of K steps in the ascent sense. Sums the steps, not the positions, to keep small ones exact."""
    sign = -1.0 if options.direction == "descent" else 1.0
    adam = Adam()
    total = {name: torch.zeros_like(value) for name, value in gradient.items()}
    for step in range(options.steps):
        if step > 0:
            position = moved(network.parameters, total, sign)
            gradient = query_gradient(network, query, unsaturated=options.unsaturated, at=position)[1]
        direction = adam.direction(gradient) if options.method == "adam" else gradient
        total = {name: torch.add(total[name], direction[name], alpha=options.learning_rate) for name in total}
    return total


def _finish(network: Network, query: Batch, gradient: Parameters, total: Parameters, options: StepOptions) -> Update:
    """Scale the total to the rise that was asked for, and look what it does to the query's loss."""
    if options.rise is None:
        scale, rise = 1.0, rise_reached(network, query, total, options.direction)
    else:
        if not options.unsaturated:
            gradient = query_gradient(network, query, unsaturated=True)[1]
        n_rows = len(next(iter(query.values())))
        slope = float(sum((gradient[name] * change).sum() for name, change in total.items())) / n_rows
        scale, rise = scale_for_rise(network, query, total, options.direction, target=options.rise, slope=slope)
    changes = total if scale == 1.0 else _times(total, scale)
    end = moved(network.parameters, changes, SIDES[options.direction][0].sign)
    before = query_loss(network, network.parameters, query)
    after = query_loss(network, end, query)
    return Update(changes, options.direction, before, after, rise, scale * options.learning_rate, options)


def query_loss(network: Network, parameters: Parameters, query: Batch) -> float:
    """Return the mean objective loss of the query's rows. Raises ModelError if it is not finite."""
    with torch.no_grad():
        value = float(losses(network, parameters, query).double().mean())
    if not -float("inf") < value < float("inf"):
        raise ModelError(f"The query's loss is {value} after the step.", hint="Take a shorter step or more damping.")
    return value


def _refuse_zero(gradient: Parameters) -> None:
    if not any(bool(value.any()) for value in gradient.values()):
        raise ModelError(
            "The gradient of the query is exactly zero: no step on it moves the model.",
            hint="Choose another query or target, or let more of the network move.",
        )


def _times(tensors: Parameters, factor: float) -> Parameters:
    return {name: value * factor for name, value in tensors.items()}


def _ordinary(value: Tensor) -> Tensor:
    return value.clone() if value.is_inference() else value


_CHECK_INPUT = "Check the query's input for NaN or infinite values, and the model on it."
