r"""A network as a pure function of the parameters that may move, and the rows it is evaluated on.

The whole model, its tail on cached trunk activations, and its head on cached features are three networks behind one
protocol; steps, curvatures and scoring never ask which one they hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call

from forwardinf_core.errors import ModelError
from forwardinf_core.influence.objective import Batch, Objective

Parameters = dict[str, Tensor]
"""Named tensors of a model, by their name in the module: parameters, and for the released recipe buffers too."""


class Network(Protocol):
    """Outputs and losses of a batch as a function of the movable parameters."""

    objective: Objective
    parameters: Parameters  # the trained values of what may move, never written to

    def outputs(self, parameters: Parameters, batch: Batch) -> Tensor:
        """Return outputs (n, …) with ``parameters`` in place of the trained ones (names left out keep theirs)."""
        ...


class Rows(Protocol):
    """Rows in a fixed order, read in batches; never all in memory."""

    def __len__(self) -> int: ...

    def batch(self, start: int, stop: int) -> Batch:
        """Return rows start … stop − 1."""
        ...


@dataclass(frozen=True)
class TensorRows:
    """Rows held in (possibly memory-mapped) tensors with one first axis."""

    tensors: Batch

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def batch(self, start: int, stop: int) -> Batch:
        return {name: value[start:stop] for name, value in self.tensors.items()}


class FullNetwork:
    """The user's module in eval mode; calls run on functional copies, so its weights are never touched."""

    def __init__(self, module: nn.Module, objective: Objective, names: list[str] | None = None) -> None:
        """``names``: parameters that may move; None means every floating-point parameter."""
        self.module = module
        self.objective = objective
        # Copies laid out in memory as a sum is: the order of rounding in a convolution depends on the layout, and an
        # unchanged model must score exactly 0.
        chosen = {
            name: torch.add(value.detach(), torch.zeros_like(value))
            for name, value in module.named_parameters()
            if value.is_floating_point()
        }
        self.parameters: Parameters = chosen if names is None else {name: chosen[name] for name in names}

    def outputs(self, parameters: Parameters, batch: Batch) -> Tensor:
        def call(*args: object, **kwargs: object) -> object:
            return functional_call(self.module, self.parameters | parameters, args, kwargs)

        return self.objective.outputs(call, batch)


class RestrictedNetwork:
    """A network of whose parameters only those with matching names may move; the others keep their trained values."""

    def __init__(self, network: Network, patterns: Sequence[str]) -> None:
        """``patterns``: names or shell patterns such as ``layer4.*``. Raises ModelError where none matches."""
        self.network = network
        self.objective = network.objective
        self.parameters: Parameters = {
            name: value
            for name, value in network.parameters.items()
            if any(fnmatchcase(name, pattern) for pattern in patterns)
        }
        if not self.parameters:
            raise ModelError(
                f"No movable parameter is called {', '.join(patterns)}.",
                hint=f"For example: {', '.join(list(network.parameters)[-4:])}.",
            )

    def outputs(self, parameters: Parameters, batch: Batch) -> Tensor:
        """Return outputs (n, …) with ``parameters`` in place of the trained ones."""
        return self.network.outputs(self.network.parameters | parameters, batch)


def losses(network: Network, parameters: Parameters, batch: Batch) -> Tensor:
    """Return the loss of each row, shape (n,)."""
    return network.objective.losses(network.outputs(parameters, batch), batch)


def slices(n_rows: int, batch_size: int) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) pairs that cover the rows in order."""
    for start in range(0, n_rows, batch_size):
        yield start, min(start + batch_size, n_rows)


def moved(parameters: Parameters, changes: Parameters, scale: float = 1.0) -> Parameters:
    """Return parameters + scale · changes, for the changed names only."""
    return {name: torch.add(parameters[name], change, alpha=scale) for name, change in changes.items()}
