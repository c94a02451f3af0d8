r"""Scores of texts, token by token: how a step on the query changes the loss of each token of a training text.

A text's score is the sum over its tokens; positive = the text helped. Logits of a batch are held twice and
nothing of the size (n, tokens, vocabulary) outlives the batch. For ``central`` the change is taken from θ̂ − δ to θ̂ + δ
and halved: two passes, as for ``ascent``, and an unchanged model scores exactly 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from forwardinf_core.errors import ModelError
from forwardinf_core.influence.language import LanguageModelling
from forwardinf_core.influence.network import Network
from forwardinf_core.influence.objective import Batch
from forwardinf_core.influence.update import SIDES, Update, moved_parameters


def token_scores(network: Network, batch: Batch, update: Update) -> Tensor:
    """Return the score of every token, (n, positions), 0 where none counts. Cost: two forward passes.

    Raises ModelError if a score is not finite.
    """
    objective = network.objective
    assert isinstance(objective, LanguageModelling)
    with torch.no_grad():
        low = -1.0 if update.direction in ("central", "descent") else 0.0
        high = 0.0 if update.direction == "descent" else 1.0
        before = network.outputs(moved_parameters(network, update, low), batch)
        after = network.outputs(moved_parameters(network, update, high), batch)
        scores = objective.token_loss_changes(before, after.sub_(before), batch) / (high - low)
    _refuse_not_finite(scores)
    return scores


def _refuse_not_finite(scores: Tensor) -> None:
    if not torch.isfinite(scores).all():
        raise ModelError(
            "The step on the query breaks the model: losses after it are not finite.",
            hint="Take a shorter step (a smaller rise) or more damping.",
        )


def far_scores(network: Network, batch: Batch, update: Update, before: Tensor) -> Tensor:
    """Return the score of every text, (n,) float64, after a step so long that rounding of its losses does not count.

    ``before``: the texts' losses under the unchanged model, (n,), their tokens' summed. The update has one side.
    Cost: one forward pass. Raises ModelError if a score is not finite.
    """
    objective, side = network.objective, SIDES[update.direction][0]
    assert isinstance(objective, LanguageModelling)
    with torch.no_grad():
        outputs = network.outputs(moved_parameters(network, update, side.sign), batch)
        scores = side.weight * (objective.token_losses(outputs, batch).double().sum(1) - before)
    _refuse_not_finite(scores)
    return scores


def normalised(score: Tensor, base_loss: Tensor) -> Tensor:
    """Return (u − o)/(u + o) of the losses before (o) and after (u = o + score); 0 where a text has no loss."""
    total = (2 * base_loss + score).clamp_min(1e-6)
    return torch.where(base_loss > 0, score / total, torch.zeros_like(score))


def relative(score: Tensor, own: Tensor) -> Tensor:
    """Return the score by the root of the text's self-influence; 0 where a text moves nothing."""
    return torch.where(own > 0, score / own.clamp_min(1e-30).sqrt(), torch.zeros_like(score))
