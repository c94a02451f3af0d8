"""What a training will cost, said in its log before it begins: a few batches of it, done on a copy of the network."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import torch
from torch import nn

from forwardinf_core.jobs.context import JobContext
from forwardinf_core.jobs.forecast import Forecast, judged
from forwardinf_core.jobs.memory import peak_bytes

BATCHES = 4
STATE = 3  # times the weights: they, and what the optimiser remembers of each


def tell_cost(
    context: JobContext, module: nn.Module, epochs: int, share: float, train_some: Callable[[nn.Module], object]
) -> Forecast:
    """Write into the job's log what ``epochs`` cost. ``train_some`` trains a copy on a ``share`` of the rows once.

    Draws of random numbers are taken back, so that the training that follows ends in the same bits as without this.
    """
    trial = copy.deepcopy(module)
    with torch.random.fork_rng(devices=[]):
        train_some(trial)  # warms up: the first batch can take as long as ten others
        started = time.perf_counter()
        train_some(trial)
        took = time.perf_counter() - started
    weights = sum(value.numel() * value.element_size() for value in module.state_dict().values())
    cost = judged(context.project, took / share * epochs, peak_bytes(), (epochs * STATE + 1) * weights)
    context.log(f"Training for {epochs} epochs. {cost.sentence}")
    return cost
