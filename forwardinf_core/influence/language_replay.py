r"""The last block and what follows it, run on cached hidden states of the frozen blocks before it.

The copy shares every weight with the user's module; blocks before the last hand on what they are given, and the last
one reads the cached hidden states instead. Masks, positions and the way the library calls a block stay its own.
"""

from __future__ import annotations

import copy
import threading
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from forwardinf_core.errors import ModelError
from forwardinf_core.influence.language import LanguageModelling
from forwardinf_core.influence.language_parts import blocks_of, names_in
from forwardinf_core.influence.network import Parameters
from forwardinf_core.influence.objective import Batch, Objective

HIDDEN = "hidden"
TOLERANCE = 1e-4  # relative to the largest logit: other kernels run on other shapes, far below this


class _Skip(nn.Module):
    """Stands for a frozen block: hands on the hidden states."""

    def __init__(self, gives_tuple: bool) -> None:
        super().__init__()
        self.gives_tuple = gives_tuple

    def forward(self, hidden_states: Tensor, *_: Any, **__: Any) -> Any:
        return (hidden_states,) if self.gives_tuple else hidden_states


class ReplayNetwork:
    """The last block and the head as a function of the last block's parameters. A batch holds ``hidden`` too."""

    def __init__(self, module: nn.Module, objective: LanguageModelling, example: Batch) -> None:
        """``example``: any batch; the replay is compared with the whole model on it.

        Raises ModelError where the architecture cannot be replayed (blocks that hand on more than hidden states).
        """
        self.objective: Objective = objective
        self._own = threading.local()
        name, blocks = blocks_of(module)
        with _capturing(blocks[-1]) as entered, _tuples(blocks) as tuples, torch.no_grad():
            expected = objective.outputs(module, example)
        memo: dict[int, Any] = {id(value): value for value in (*module.parameters(), *module.buffers())}
        memo |= {id(block): _Skip(bool(tuples)) for block in blocks[:-1]}
        self.module: nn.Module = copy.deepcopy(module, memo)
        last = blocks_of(self.module)[1][-1]
        last.register_forward_pre_hook(self._replace, with_kwargs=True)
        self.parameters: Parameters = {
            own: torch.add(value.detach(), torch.zeros_like(value))
            for own, value in module.named_parameters()
            if own in set(names_in(module, "last-block"))
        }
        try:
            with torch.no_grad():
                found = self.outputs({}, example | {HIDDEN: entered[0]})
            close = (found - expected).abs().max() <= TOLERANCE * expected.abs().max().clamp_min(1.0)
        except (RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise _refused(name) from error
        if not close:
            raise _refused(name)

    def outputs(self, parameters: Parameters, batch: Batch) -> Tensor:
        """Return the logits; the batch's ``hidden`` are the hidden states that enter the last block."""
        rest = {name: value for name, value in batch.items() if name != HIDDEN}
        self._own.hidden = batch[HIDDEN]

        def call(*args: object, **kwargs: object) -> object:
            return functional_call(self.module, self.parameters | parameters, args, kwargs)

        try:
            return self.objective.outputs(call, rest)
        finally:
            del self._own.hidden

    def _replace(self, _block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (self._own.hidden, *args[1:]), kwargs
        return args, kwargs | {"hidden_states": self._own.hidden}


def entering_last_block(module: nn.Module, objective: LanguageModelling, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the hidden states (n, T, width) that enter the last block, and the model's outputs."""
    with _capturing(blocks_of(module)[1][-1]) as entered, torch.no_grad():
        outputs = objective.outputs(module, batch)
    return entered[0], outputs


class _capturing:  # noqa: N801  # used like a function
    """Keeps what enters a block while the body runs."""

    def __init__(self, block: nn.Module) -> None:
        self._block = block

    def __enter__(self) -> list[Tensor]:
        kept: list[Tensor] = []

        def note(_block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            kept.append((args[0] if args else kwargs["hidden_states"]).detach())

        self._handle = self._block.register_forward_pre_hook(note, with_kwargs=True)
        return kept

    def __exit__(self, *_: object) -> None:
        self._handle.remove()


class _tuples:  # noqa: N801  # used like a function
    """Notes whether the blocks give tuples while the body runs."""

    def __init__(self, blocks: nn.ModuleList) -> None:
        self._block = blocks[0]

    def __enter__(self) -> list[bool]:
        kept: list[bool] = []

        def note(_block: nn.Module, _args: Any, result: Any) -> None:
            if isinstance(result, tuple):
                kept.append(True)

        self._handle = self._block.register_forward_hook(note)
        return kept

    def __exit__(self, *_: object) -> None:
        self._handle.remove()


def _refused(name: str) -> ModelError:
    return ModelError(
        f"The last of the blocks {name} cannot be run on its own.",
        hint="The same step works with a pass through the whole model; nothing is cached then.",
    )
