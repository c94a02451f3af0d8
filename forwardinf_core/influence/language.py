r"""Language models: the loss of a text is that of its tokens, each predicted from those before it.

A batch holds ``input_ids`` (n, T) int64, ``attention_mask`` (n, T), and ``labels`` (n, T), the tokens whose loss
counts, −100 elsewhere: padding, and in a query everything outside its target spans. For a causal model the label at
position t is predicted by the output at t − 1; for a sequence-to-sequence model ``labels`` (n, T') are the target text
and the output at t predicts the label at t. Whether the loss of a text is the SUM or the MEAN over its tokens is an
option of the objective and recorded with every result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from forwardinf_core.influence.objective import Batch, log_mean_exp

IGNORED = -100
Reduction = Literal["sum", "mean"]
LanguageTask = Literal["causal-lm", "seq2seq-lm"]
BLOCK_NUMBERS = 1 << 22  # numbers in one block of positions × vocabulary: 16 MiB in float32


class LanguageModelling:
    """Cross-entropy of tokens. Outputs are logits (n, positions, vocabulary) aligned with ``targets``."""

    def __init__(self, task: LanguageTask = "causal-lm", reduction: Reduction = "sum") -> None:
        self.task: str = task
        self.reduction = reduction

    def outputs(self, call: Callable[..., object], batch: Batch) -> Tensor:
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        if self.task == "causal-lm":
            logits = _logits(call(**inputs, use_cache=False))
            return logits[:, :-1]
        return _logits(call(**inputs, labels=batch["labels"], use_cache=False))

    def targets(self, batch: Batch) -> Tensor:
        """Return the token that each output should predict, −100 where none counts: (n, positions)."""
        return batch["labels"][:, 1:] if self.task == "causal-lm" else batch["labels"]

    def token_losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the loss of every token, (n, positions), 0 where none counts."""
        return self._by_token(outputs, None, batch, _loss)

    def token_loss_changes(self, outputs: Tensor, change: Tensor, batch: Batch) -> Tensor:
        """Return the change of every token's loss, (n, positions), without cancellation, 0 where none counts."""
        return self._by_token(outputs, change, batch, _loss_change)

    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        return self._reduced(self.token_losses(outputs, batch), batch)

    def unsaturated_losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        r"""Return the log-odds against each token, log Σ_{j≠y} exp z_j − z_y, summed or averaged over the tokens.

        The gradient of a fitted token does not vanish. A change of it by d multiplies its odds by exp(−d).
        """
        return self._reduced(self._by_token(outputs, None, batch, _log_odds), batch)

    def loss_changes(self, outputs: Tensor, change: Tensor, batch: Batch) -> Tensor:
        return self._reduced(self.token_loss_changes(outputs, change, batch), batch)

    def output_gradients(self, outputs: Tensor, batch: Batch) -> Tensor:
        targets = self.targets(batch)
        counted = targets != IGNORED
        gradient = outputs.softmax(-1)
        chosen = targets.clamp_min(0).unsqueeze(-1)
        gradient = gradient.scatter_add(-1, chosen, -torch.ones_like(chosen, dtype=gradient.dtype))
        weights = counted.to(gradient.dtype)
        if self.reduction == "mean":
            weights = weights / counted.sum(1, keepdim=True).clamp_min(1)
        return gradient * weights.unsqueeze(-1)

    def _reduced(self, values: Tensor, batch: Batch) -> Tensor:
        total = values.sum(1)
        if self.reduction == "sum":
            return total
        return total / (self.targets(batch) != IGNORED).sum(1).clamp_min(1)

    def _by_token(
        self,
        outputs: Tensor,
        change: Tensor | None,
        batch: Batch,
        compute: Callable[[Tensor, Tensor | None, Tensor], Tensor],
    ) -> Tensor:
        """Apply ``compute`` to the counted positions alone, in blocks of bounded memory."""
        targets = self.targets(batch)
        counted = (targets != IGNORED).nonzero(as_tuple=True)
        chosen = targets[counted].unsqueeze(1)
        size = max(1, BLOCK_NUMBERS // outputs.shape[-1])
        parts = []
        for start in range(0, len(chosen), size):
            place = tuple(axis[start : start + size] for axis in counted)
            moved = None if change is None else change[place].to(_precise(change))
            parts.append(compute(outputs[place].to(_precise(outputs)), moved, chosen[start : start + size]))
        values = torch.cat(parts) if parts else outputs.new_zeros(0)
        return values.new_zeros(targets.shape).index_put(counted, values)


class TokenLogOdds(LanguageModelling):
    """The same texts with the log-odds against each token as their loss: its gradient does not vanish once fitted.

    A text's self-influence under it is its leverage: how much room the model has to move its tokens through the text
    alone, whether it has learned them already or not.
    """

    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        return self.unsaturated_losses(outputs, batch)


def _precise(values: Tensor) -> torch.dtype:
    return torch.float64 if values.dtype == torch.float64 else torch.float32


def _logits(result: object) -> Tensor:
    logits = getattr(result, "logits", result)
    if isinstance(logits, tuple):
        logits = logits[0]
    assert isinstance(logits, Tensor)
    return logits


def _loss(logits: Tensor, _change: Tensor | None, label: Tensor) -> Tensor:
    return (torch.logsumexp(logits, 1, keepdim=True) - logits.gather(1, label)).squeeze(1)


def _log_odds(logits: Tensor, _change: Tensor | None, label: Tensor) -> Tensor:
    others = logits.scatter(1, label, float("-inf"))
    return torch.logsumexp(others, 1) - logits.gather(1, label).squeeze(1)


def _loss_change(logits: Tensor, change: Tensor | None, label: Tensor) -> Tensor:
    assert change is not None
    return log_mean_exp(logits.log_softmax(1), change - change.gather(1, label))
