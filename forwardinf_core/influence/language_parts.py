r"""Which parameters of a language model a step may move, and per-text gradients of its weight matrices.

A step through a curvature moves the weight matrices of the blocks' linear layers (``Linear``, and GPT-2's transposed
``Conv1D``): a text's gradient of one is Σ_t a_t b_tᵀ, the inputs a (n, T, in) and output gradients b (n, T, out) of one
backward pass. Other embeddings, normalisation and biases move under SGD and Adam. Where input and output embeddings are
one tensor, ``linear`` (blocks and head) and ``all`` move it as one; ``head`` moves the output's copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from forwardinf_core.errors import ModelError
from forwardinf_core.influence.language import LanguageModelling
from forwardinf_core.influence.objective import Batch

LanguageScope = Literal["all", "linear", "blocks", "mlps", "last-block", "head"]
MLP_PARTS = ("mlp", "ffn", "feed_forward", "DenseReluDense", "fc1", "fc2", "c_fc")


@dataclass(frozen=True)
class Matrix:
    """The weight of one linear layer. ``is_transposed``: it is stored (in, out), as Conv1D does.

    ``is_wide``: its outputs are the whole vocabulary, too many for eigenvectors of their own. ``is_plain``: no side has
    eigenvectors, its Fisher is a diagonal whatever that of the others is. ``readers``: embeddings whose weight is the
    same tensor; a step moves both, and a text's gradient is that of both.
    """

    module: str
    weight: str  # name of the parameter
    is_transposed: bool
    is_wide: bool = False
    is_plain: bool = False
    readers: tuple[str, ...] = ()


def blocks_of(module: nn.Module) -> tuple[str, nn.ModuleList]:
    """Return the name and the list of the model's blocks, a decoder's where there are two lists.

    Raises ModelError where there is none.
    """
    lists = [(name, part) for name, part in module.named_modules() if isinstance(part, nn.ModuleList) and len(part)]
    outer = [(name, part) for name, part in lists if not any(name.startswith(f"{other}.") for other, _ in lists)]
    if not outer:
        raise ModelError(
            "The blocks of this language model cannot be found.", hint="Use a method that moves all parameters."
        )
    return outer[-1]


def head_matrix(module: nn.Module) -> Matrix:
    """Return the model's head, its output embedding. Raises ModelError where it has none that is a linear layer."""
    get = getattr(module, "get_output_embeddings", None)
    layer = get() if callable(get) else None
    name = next((own for own, part in module.named_modules() if part is layer), "") if layer is not None else ""
    if not name or not isinstance(layer, nn.Linear):
        raise ModelError("This language model has no linear head.", hint="Use last-block or blocks.")
    return Matrix(name, f"{name}.weight", is_transposed=False, is_wide=True)


def embedding_matrix(module: nn.Module) -> Matrix:
    """Return the model's head with the embeddings that share its tensor, all curved by one diagonal.

    ``weight`` is then the name that the module gives the shared tensor. Raises ModelError without a linear head.
    """
    head = head_matrix(module)
    shared = module.get_submodule(head.module).weight
    parts = module.named_modules()
    readers = tuple(name for name, part in parts if isinstance(part, nn.Embedding) and part.weight is shared)
    own = next(name for name, value in module.named_parameters() if value is shared)
    return replace(head, weight=own if readers else head.weight, is_plain=True, readers=readers)


def names_in(module: nn.Module, scope: LanguageScope) -> list[str]:
    """Return the names of the floating-point parameters of a scope, each tensor once."""
    named = [name for name, value in module.named_parameters() if value.is_floating_point()]
    if scope == "all":
        return named
    if scope == "head":
        return [head_matrix(module).weight]
    if scope == "linear":
        return [*names_in(module, "blocks"), embedding_matrix(module).weight]
    name, blocks = blocks_of(module)
    lists = _lists(module) if scope in ("blocks", "mlps") else [f"{name}.{len(blocks) - 1}"]
    inside = [own for own in named if any(own.startswith(f"{one}.") for one in lists)]
    if scope == "mlps":
        inside = [own for own in inside if any(part in own for part in MLP_PARTS)]
        if not inside:
            raise ModelError("This model has no MLP that could be told by its name.", hint="Use blocks or last-block.")
    return inside


def matrices_of(module: nn.Module, scope: LanguageScope) -> list[Matrix]:
    """Return the linear layers whose weights a curvature step of this scope moves, by the order of the module.

    Raises ModelError that names what cannot be handled where nothing is left.
    """
    if scope == "head":
        return [head_matrix(module)]
    if scope == "linear":
        return [*matrices_of(module, "blocks"), embedding_matrix(module)]
    names = set(names_in(module, "blocks" if scope == "all" else scope))
    found, others = [], []
    for own, part in module.named_modules():
        weight = f"{own}.weight"
        if weight not in names or not isinstance(getattr(part, "weight", None), Tensor) or part.weight.ndim != 2:
            continue
        kind = type(part).__name__
        if isinstance(part, nn.Linear) or kind == "Conv1D":
            found.append(Matrix(own, weight, kind == "Conv1D"))
        else:
            others.append(f"{own} ({kind})")
    if not found:
        raise ModelError(
            "A curvature needs linear layers, and this scope has none"
            + (f": {', '.join(others[:3])} cannot be handled." if others else "."),
            hint="Use the step sgd or adam.",
        )
    return found


@dataclass(frozen=True)
class Recorded:
    """One backward pass: ``inputs`` (n, T, in) and ``gradients`` (n, T, out) of each matrix, and losses (n,).

    ``reads``: of each embedding's calls, the tokens (n, T) and the gradients of what was read for them (n, T, in).
    """

    inputs: dict[str, Tensor]
    gradients: dict[str, Tensor]
    losses: Tensor
    reads: dict[str, list[tuple[Tensor, Tensor]]]

    def text_gradients(self, matrix: Matrix, left: Tensor | None = None, right: Tensor | None = None) -> Tensor:
        """Return every text's gradient of one matrix, (n, in, out), in the bases ``left`` and ``right`` where given."""
        inputs, gradients = self.inputs[matrix.weight], self.gradients[matrix.weight]
        inputs = inputs if left is None else inputs @ left
        gradients = gradients if right is None else gradients @ right
        found = torch.einsum("nti,nto->nio", inputs, gradients)
        for reader in matrix.readers:
            for tokens, read in self.reads[reader]:
                found.scatter_add_(2, tokens.unsqueeze(1).expand(-1, read.shape[2], -1), read.transpose(1, 2))
        return found


def recorded(module: nn.Module, objective: LanguageModelling, matrices: Sequence[Matrix], batch: Batch) -> Recorded:
    """Return inputs and output gradients of the losses' sum. Cost: one forward and one backward pass."""
    readers = [reader for matrix in matrices for reader in matrix.readers]
    watched = [*(matrix.module for matrix in matrices), *readers]
    with _watching(module, watched) as calls, torch.inference_mode(False), torch.enable_grad():
        losses = objective.losses(objective.outputs(module, batch), batch)
        ran = [matrix for matrix in matrices if calls[matrix.module]]
        last = [calls[matrix.module][-1] for matrix in ran]
        read = [(reader, *call) for reader in readers for call in calls[reader]]
        outputs = [result for _, result in last] + [result for _, _, result in read]
        found = torch.autograd.grad(losses.sum(), outputs, allow_unused=True, materialize_grads=True)
    reads: dict[str, list[tuple[Tensor, Tensor]]] = {reader: [] for reader in readers}
    for (reader, tokens, _), gradient in zip(read, found[len(ran) :], strict=True):
        reads[reader].append((tokens, gradient))
    return Recorded(
        {matrix.weight: given for matrix, (given, _) in zip(ran, last, strict=True)},
        {matrix.weight: gradient for matrix, gradient in zip(ran, found, strict=False)},
        losses.detach(),
        reads,
    )


@contextmanager
def _watching(module: nn.Module, names: Sequence[str]) -> Iterator[dict[str, list[tuple[Tensor, Tensor]]]]:
    """Keep what enters and leaves each layer at each call; what leaves is differentiable though weights are not."""
    calls: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in names}

    def watch(name: str) -> torch.utils.hooks.RemovableHandle:
        def note(_part: nn.Module, given: tuple[Tensor, ...], result: Tensor) -> Tensor:
            kept = result if result.requires_grad else result.detach().requires_grad_()
            calls[name].append((given[0].detach(), kept))
            return kept

        return module.get_submodule(name).register_forward_hook(note)

    handles = [watch(name) for name in calls]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _lists(module: nn.Module) -> list[str]:
    lists = [name for name, part in module.named_modules() if isinstance(part, nn.ModuleList) and len(part)]
    return [name for name in lists if not any(name.startswith(f"{other}.") for other in lists)]
