r"""What a model says of rows, without a matrix of rows × classes: the given label, and the classes that are likeliest.

With a few classes nothing is left out; with thousands, ten numbers a row are kept and the rest is never stored.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

KEPT = 10  # classes a row: nine that a digit key can pick, and one to spare for the given label


@dataclass(frozen=True)
class Opinion:
    """Log-probabilities of n rows. ``classes`` (n, m) by falling likelihood with ``log_shares`` (n, m)."""

    own: Tensor  # (n,) log-probability of the given label
    classes: Tensor  # (n, m) int64
    log_shares: Tensor  # (n, m) float32

    @classmethod
    def of(cls, log_probabilities: Tensor, labels: Tensor) -> Opinion:
        """Keep what is needed of (n, c) log-probabilities; call it block by block where c is large."""
        own = log_probabilities.gather(1, labels.unsqueeze(1)).squeeze(1)
        shares, classes = log_probabilities.topk(min(KEPT, log_probabilities.shape[1]), dim=1)
        return cls(own.clone(), classes, shares)

    @classmethod
    def joined(cls, blocks: list[Opinion]) -> Opinion:
        """Return the opinions of several blocks of rows as one."""
        parts = [(block.own, block.classes, block.log_shares) for block in blocks]
        own, classes, shares = (torch.cat(list(part)) for part in zip(*parts, strict=True))
        return cls(own, classes, shares)

    def at(self, rows: Tensor) -> Opinion:
        """Return the opinion of some rows."""
        return Opinion(self.own[rows], self.classes[rows], self.log_shares[rows])

    def loss(self) -> Tensor:
        """Return the cross-entropy of each row under its given label, (n,)."""
        return -self.own

    def margin(self, labels: Tensor) -> Tensor:
        """Return the log-probability of the likeliest other class minus that of the given label, (n,)."""
        others = self.log_shares.masked_fill(self.classes == labels.unsqueeze(1), float("-inf"))
        return others.amax(1) - self.own

    def other(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the likeliest class that is not the given label, and its log-probability, each (n,)."""
        others = self.log_shares.masked_fill(self.classes == labels.unsqueeze(1), float("-inf"))
        shares, places = others.max(1)
        return self.classes.gather(1, places.unsqueeze(1)).squeeze(1), shares

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """Return what must be stored, by names that begin with ``prefix``."""
        return {f"{prefix}own": self.own, f"{prefix}classes": self.classes, f"{prefix}log_shares": self.log_shares}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], prefix: str) -> Opinion:
        """Build it again from what ``tensors`` returned."""
        return cls(tensors[f"{prefix}own"], tensors[f"{prefix}classes"], tensors[f"{prefix}log_shares"])
