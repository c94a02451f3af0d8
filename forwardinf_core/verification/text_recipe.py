"""The recipe of the built-in text classifier: trained as ``fit`` trains it, on any subset of some texts."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from forwardinf_core.influence.network import slices
from forwardinf_core.influence.objective import Batch
from forwardinf_core.models.text_baseline import PAD_ID, TextBaseline, TextBaselineConfig
from forwardinf_core.models.text_encoding import IDS, MASK
from forwardinf_core.models.text_training import EVALUATION_BATCH, TextTraining, train_text
from forwardinf_core.store.binding import Binding
from forwardinf_core.verification.retraining import Examples, Task

NO_TOKEN = -1  # in place of padding, so that tokens alone say what is masked


@dataclass(frozen=True)
class TextRecipe:
    """A classifier and how it is trained on any subset of ``rows``: tokens (n, length), NO_TOKEN after each text.

    The tokenizer is that of the project's model, made from all its training rows: it stays where rows are left out.
    """

    config: TextBaselineConfig
    options: TextTraining  # its seed is replaced by the task's
    rows: Examples

    @property
    def n_classes(self) -> int:
        return self.config.n_classes

    def fresh(self) -> TextBaseline:
        """Return an untrained network, its first weights drawn from the running generator."""
        return TextBaseline(self.config, dropout=self.options.dropout)

    def network(self, task: Task) -> TextBaseline:
        """Return the network trained for a task. The task's seed decides first weights, order and words left out."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(task.seed)
            module = self.fresh()
        labels = torch.full_like(self.rows.labels, -1)
        chosen = torch.as_tensor(task.subset)
        labels[chosen] = task.labelled(self.rows.labels)[chosen]
        train_text(module, tokens_as_batch(self.rows.inputs), labels, replace(self.options, seed=task.seed))
        return module

    def outputs(self, task: Task, watched: Examples) -> Tensor:
        """Return the outputs (n_watched, n_classes) of the network trained for a task."""
        module, batch = self.network(task), tokens_as_batch(watched.inputs)
        with torch.inference_mode():
            parts = [module(batch[IDS][a:b], batch[MASK][a:b]) for a, b in slices(len(watched), EVALUATION_BATCH)]
        return torch.cat(parts).float()

    def binding(self, kind: str, **more: Examples) -> Binding:
        """Return what results of this recipe depend on, with further texts by name."""
        prints = {"rows": self.rows.fingerprint()} | {name: texts.fingerprint() for name, texts in more.items()}
        options = asdict(self.options)
        del options["seed"]  # each task has its own
        return Binding(kind, prints, {"model": asdict(self.config), "training": options})


def batch_as_tokens(encoded: Batch) -> Tensor:
    """Return tokens (n, length) int64 with NO_TOKEN where the mask is 0."""
    return encoded[IDS].masked_fill(encoded[MASK] == 0, NO_TOKEN)


def tokens_as_batch(tokens: Tensor) -> Batch:
    """Return what ``batch_as_tokens`` was given."""
    mask = tokens != NO_TOKEN
    return {IDS: tokens.masked_fill(~mask, PAD_ID), MASK: mask.long()}
