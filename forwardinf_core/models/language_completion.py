"""What the model itself says: the likeliest completion of a prompt, and the probability of every token of a text."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from forwardinf_core.influence.objective import Batch
from forwardinf_core.models.language import LanguageModel
from forwardinf_core.models.language_text import Prompt, Token, prompt_tokens

LONGEST_COMPLETION = 16  # tokens
ENDS = ".!?\n"
ENDED = re.compile(r"(\S.*(?<!\b[A-Z])[.!?]|\n)\s*$", re.DOTALL)  # not the point of an initial, as in J. R. R. Tolkien
ALTERNATIVES = 5


@dataclass(frozen=True)
class Alternative:
    """Another way the model could go on, with the probability of its first token."""

    text: str
    probability: float


def complete(model: LanguageModel, prompt: str, *, longest: int = LONGEST_COMPLETION) -> str:
    """Return the likeliest token after token, up to the end of a sentence or of the text, without leading space.

    The same prompt has the same completion. Empty where the model would say nothing. Raises DataError for a prompt
    that is empty or fills the context.
    """
    return _continued(model, prompt_tokens(model, prompt), [], longest)


def alternatives(model: LanguageModel, prompt: str) -> tuple[Alternative, ...]:
    """Return how the model could go on: from each of the likeliest first tokens, the likeliest token after token."""
    read = prompt_tokens(model, prompt)
    shares = _next_logits(model, read, []).softmax(0)
    found = shares.topk(min(ALTERNATIVES, len(shares)))
    return tuple(
        Alternative(_continued(model, read, [int(token)], LONGEST_COMPLETION), float(share))
        for share, token in zip(found.values, found.indices, strict=True)
        if int(token) not in (model.end, model.pad)
    )


def _continued(model: LanguageModel, read: list[int], said: list[int], longest: int) -> str:
    said = list(said)
    while len(said) < longest and (model.task == "seq2seq-lm" or len(read) + len(said) < model.context):
        best = int(_next_logits(model, read, said).argmax())
        if best in (model.end, model.pad):
            break
        said.append(best)
        text = model.tokenizer.decode(said)
        if ENDED.search(text):
            break
    return str(model.tokenizer.decode(said, skip_special_tokens=True)).strip().rstrip(ENDS).strip()


def tokens_of(model: LanguageModel, prompt: Prompt, n_prompt_characters: int) -> tuple[Token, ...]:
    """Return the tokens of a question with the probability the model gives each, as a person sees them.

    ``n_prompt_characters`` of its text are the prompt's, 0 where the text is the completion alone. Of tokens that are
    bytes of one character, the first has the character and the others have no text.
    """
    batch = prompt.batch()
    batch["labels"] = torch.tensor([prompt.ids])
    losses = losses_of_tokens(model, batch)[0]
    first = 0 if model.task == "seq2seq-lm" else 1
    shares = [float("nan")] * first + torch.exp(-losses).tolist()
    found, end = [], 0
    for (start, stop), share in zip(prompt.places, shares, strict=True):
        found.append(Token(prompt.text[max(start, end) : stop], share, stop <= n_prompt_characters))
        end = max(end, stop)
    return tuple(found)


@torch.inference_mode()
def losses_of_tokens(model: LanguageModel, batch: Batch) -> Tensor:
    """Return the loss of every token of a batch, (n, positions); nothing is stored beyond that."""
    return model.objective.token_losses(model.objective.outputs(model.module, batch), batch)


@torch.inference_mode()
def _next_logits(model: LanguageModel, read: list[int], said: list[int]) -> Tensor:
    if model.task == "causal-lm":
        result = model.module(input_ids=torch.tensor([read + said]), use_cache=False)
    else:
        start = int(model.module.config.decoder_start_token_id)  # type: ignore[union-attr,arg-type]
        result = model.module(
            input_ids=torch.tensor([read]), decoder_input_ids=torch.tensor([[start, *said]]), use_cache=False
        )
    logits: Tensor = result.logits[0, -1].float()
    return logits
