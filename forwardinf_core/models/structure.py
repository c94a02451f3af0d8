"""Where a model's head and tail are: as project.yaml declares them, checked, or as the model's graph shows them."""

from __future__ import annotations

import difflib

import torch
from torch import nn

from forwardinf_core.errors import ModelError
from forwardinf_core.influence.anatomy import find_head, find_tail
from forwardinf_core.influence.graph import GraphNetwork, whole_graph
from forwardinf_core.influence.objective import Objective
from forwardinf_core.models.audit_model import Inputs
from forwardinf_core.models.parts import ModelParts
from forwardinf_core.models.probe import N_PROBES, probe_inputs
from forwardinf_core.models.source import ModelSource

NAMES_SHOWN = 8  # of the last modules, where heads and tails are


def head_and_tail(source: ModelSource, parts: ModelParts) -> tuple[str | None, tuple[str, ...] | None]:
    """Return the names of the head and of the tail's modules, None where there is none.

    A model that cannot be turned into a graph has neither, unless declared: methods that move the whole network still
    work, and ``check`` says why. Raises ModelError where what project.yaml declares is not in the model.
    """
    for field, names in (("model.head", (source.head,)), ("model.tail", source.tail or ())):
        for name in names:
            if name is not None:
                _require_movable(parts.module, name, field)
    if parts.head is not None and source.head in (None, parts.head):
        return parts.head, source.tail or parts.tail
    try:
        graph = graph_of(parts.module, parts.objective, parts.inputs)
    except ModelError:
        return source.head, source.tail
    head = find_head(graph)
    if source.head not in (None, head):
        raise ModelError(
            f"model.head is {source.head}, which is no linear layer whose output is the model's output.",
            hint=f"Here that is {head}." if head else "This model has none; leave model.head out.",
        )
    return head, source.tail or find_tail(graph)


def graph_of(module: nn.Module, objective: Objective, inputs: Inputs) -> GraphNetwork:
    """Return the model as a graph. Raises ModelError that says why it cannot be one."""
    label = torch.zeros(N_PROBES, dtype=torch.int64)
    return whole_graph(module, objective, probe_inputs(inputs) | {"label": label})


def _require_movable(module: nn.Module, name: str, field: str) -> None:
    names = [own for own, _ in module.named_modules() if own]
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3)
        last = ("…, " if len(names) > NAMES_SHOWN else "") + ", ".join(names[-NAMES_SHOWN:])
        raise ModelError(
            f"{field} names {name}, and the model has no such module.",
            hint=f"Did you mean {', '.join(near)}?" if near else f"Modules: {last or 'none'}.",
        )
    if not list(module.get_submodule(name).parameters()):
        raise ModelError(f"{field} names {name}, which has no weights to move.", hint="Name a module with weights.")
