"""The engine's estimates on a network trained here, for a set of queries as one: what the app would have said of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from forwardinf_core.audits.methods import DEFAULT_DAMPING
from forwardinf_core.influence.curvature.base import Curvature
from forwardinf_core.influence.curvature.ekfac import fit_ekfac
from forwardinf_core.influence.curvature.subspace import fit_blended
from forwardinf_core.influence.network import TensorRows
from forwardinf_core.influence.objective import Batch, Classification
from forwardinf_core.influence.scoring import score_rows
from forwardinf_core.influence.split import Split, split
from forwardinf_core.influence.step import take_steps
from forwardinf_core.influence.update import StepOptions
from forwardinf_core.verification.estimates import WORDS, head_estimates
from forwardinf_core.verification.retraining import Examples

BATCH = 100
RANK = 2_048  # coordinates of the tail's subspace, the app's default
RISE = 0.01

TAIL_WORDS = {
    "tail": "tail, as the app asks",
    "tail-ekfac": "tail through EK-FAC",
    "tail-sgd": "tail, plain gradient",
}

Floats = NDArray[np.float64]


def network_estimates(
    module: nn.Module, rows: Batch, queries: Batch, *, head: str, tail: Sequence[str]
) -> dict[str, Floats]:
    """Return the scores (n_rows,) of every estimate for all queries together, by name; positive = the row helps.

    ``rows`` and ``queries`` are batches of the network's inputs with labels. Estimates on the head are summed over the
    queries; a step on the tail is taken on the loss of all queries at once.
    """
    example = {name: value[:2] for name, value in rows.items()}
    found = _on_head(split(module, Classification(), example, [head]), module, head, rows, queries)
    found.update(_on_tail(split(module, Classification(), example, list(tail)), rows, queries))
    return found


def words_of(name: str) -> str:
    """Return what an estimate is, in words."""
    return TAIL_WORDS.get(name) or WORDS.get(name, name)


def _on_head(parts: Split, module: nn.Module, head: str, rows: Batch, queries: Batch) -> dict[str, Floats]:
    layer = module.get_submodule(head)
    assert isinstance(layer, nn.Linear)
    assert layer.bias is not None
    weights = torch.cat([layer.weight, layer.bias.unsqueeze(1)], 1).detach().double()
    (entry,) = parts.tail.inputs
    own, asked = (Examples(_through(parts, batch)[entry], batch["label"]) for batch in (rows, queries))
    return {name: scores.sum(0) for name, scores in head_estimates(own, asked, weights).items()}


def _on_tail(parts: Split, rows: Batch, queries: Batch) -> dict[str, Floats]:
    own, asked = TensorRows(_through(parts, rows)), _through(parts, queries)
    ekfac = fit_ekfac(parts.tail, own, batch_size=BATCH)
    subspace = fit_blended(parts.tail, own, k=RANK, batch_size=BATCH)
    steps: dict[str, tuple[StepOptions, Curvature | None]] = {
        "tail": (StepOptions(method="curvature", rise=RISE, damping=DEFAULT_DAMPING["subspace"]), subspace),
        "tail-ekfac": (StepOptions(method="curvature", rise=RISE, damping=DEFAULT_DAMPING["ekfac"]), ekfac),
        "tail-sgd": (StepOptions(method="sgd", rise=RISE), None),
    }
    found = {}
    for name, (options, curvature) in steps.items():
        update = take_steps(parts.tail, [asked], options, curvature)
        found[name] = score_rows(parts.tail, own, update, None, batch_size=BATCH)[:, 0].double().numpy()
    return found


@torch.no_grad()
def _through(parts: Split, batch: Batch) -> dict[str, Tensor]:
    """Return the activations of a batch at the cut, with its labels."""
    n_rows = len(batch["label"])
    kept = [
        parts.trunk({name: value[start : start + BATCH] for name, value in batch.items()})
        for start in range(0, n_rows, BATCH)
    ]
    return {name: torch.cat([one[name] for one in kept]) for name in kept[0]}
