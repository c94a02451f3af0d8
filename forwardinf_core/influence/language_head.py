r"""The head of a language model alone, on the hidden states that enter it: logits = W h + b.

Input and output embeddings are often one tensor. A step on the head moves its copy for the output alone; what the
model reads stays as it is. Any architecture whose output embedding is a linear layer has such a head, GPT-2's and
T5's alike: the hidden states are taken where they enter that layer, with whatever scaling the model gives them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from forwardinf_core.errors import ModelError
from forwardinf_core.influence.language import LanguageModelling
from forwardinf_core.influence.language_parts import head_matrix
from forwardinf_core.influence.language_replay import HIDDEN, TOLERANCE
from forwardinf_core.influence.network import FullNetwork, Parameters
from forwardinf_core.influence.objective import Batch, Objective


class LanguageHead:
    """The head as a function of its weight. A batch holds ``hidden`` too, from ``entering_head``."""

    def __init__(self, module: nn.Module, objective: LanguageModelling, example: Batch) -> None:
        """``example``: any batch; the head is compared with the whole model on it.

        Raises ModelError where the model does something to the logits after its last layer.
        """
        self.objective: Objective = objective
        matrix = head_matrix(module)
        layer = module.get_submodule(matrix.module)
        assert isinstance(layer, nn.Linear)
        self._name, self._bias = matrix.weight, None if layer.bias is None else layer.bias.detach()
        weight = layer.weight.detach()
        self.parameters: Parameters = {self._name: torch.add(weight, torch.zeros_like(weight))}
        hidden, expected = entering_head(module, objective, example)
        found = self.outputs({}, example | {HIDDEN: hidden})
        if (found - expected).abs().max() > TOLERANCE * expected.abs().max().clamp_min(1.0):
            raise ModelError(
                "This model changes its logits after the last layer, so its head cannot be run on its own.",
                hint="Use last-block or blocks.",
            )

    def outputs(self, parameters: Parameters, batch: Batch) -> Tensor:
        """Return the logits."""
        weight = parameters.get(self._name, self.parameters[self._name])
        logits = F.linear(batch[HIDDEN], weight, self._bias)
        rest = {name: value for name, value in batch.items() if name != HIDDEN}
        return self.objective.outputs(lambda **_: logits, rest)


class HeadApart(FullNetwork):
    """The whole model, whose head has a weight of its own where it shares one with what the model reads."""

    def __init__(self, module: nn.Module, objective: LanguageModelling) -> None:
        super().__init__(module, objective)
        matrix = head_matrix(module)
        weight = module.get_submodule(matrix.module).weight
        assert isinstance(weight, Tensor)
        self.parameters[matrix.weight] = torch.add(weight.detach(), torch.zeros_like(weight))

    def outputs(self, parameters: Parameters, batch: Batch) -> Tensor:
        """Return the logits."""

        def call(*args: object, **kwargs: object) -> object:
            return functional_call(self.module, self.parameters | parameters, args, kwargs, tie_weights=False)

        return self.objective.outputs(call, batch)


def entering_head(module: nn.Module, objective: LanguageModelling, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the hidden states (n, T, width) that enter the head, and the model's outputs."""
    kept: list[Tensor] = []

    def note(_layer: nn.Module, args: tuple[Any, ...]) -> None:
        kept.append(args[0].detach())

    handle = module.get_submodule(head_matrix(module).module).register_forward_pre_hook(note)
    try:
        with torch.no_grad():
            outputs = objective.outputs(module, batch)
    finally:
        handle.remove()
    return kept[0], outputs
