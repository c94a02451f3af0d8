"""Confident learning by the cleanlab library (Northcutt et al. 2021), in batches: no matrix of rows × classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from cleanlab.experimental.label_issues_batched import LabelInspector  # type: ignore[import-untyped]  # no stubs
from torch import Tensor

from forwardinf_core.audits.mislabels.opinions import Opinion
from forwardinf_core.influence.network import slices

BLOCK_NUMBERS = 1 << 22


@dataclass(frozen=True)
class Confident:
    """cleanlab's suspicion of each row (1 − label quality), and how many labels it counts as wrong."""

    suspicion: Tensor
    n_wrong: int


def confident_learning(opinion: Opinion, labels: Tensor, n_classes: int) -> Confident:
    """Return cleanlab's judgement of held-out probabilities: its normalised margin, and its count of issues."""
    inspector = LabelInspector(
        num_class=n_classes,
        store_results=False,
        verbose=False,
        n_jobs=1,
        quality_score_kwargs={"method": "normalized_margin"},
    )
    step = max(1, BLOCK_NUMBERS // n_classes)
    blocks = list(slices(len(labels), step))
    for start, stop in blocks:
        rows = slice(start, stop)
        inspector.update_confident_thresholds(labels[rows].numpy(), dense(opinion, labels, n_classes, rows))
    scores = [
        inspector.score_label_quality(labels[a:b].numpy(), dense(opinion, labels, n_classes, slice(a, b)))
        for a, b in blocks
    ]
    quality = torch.from_numpy(np.concatenate(scores).astype(np.float32))
    return Confident(1.0 - quality, int(inspector.get_num_issues(silent=True)))


def dense(opinion: Opinion, labels: Tensor, n_classes: int, rows: slice) -> np.ndarray:
    """Return the probabilities of some rows, (b, c); what an opinion left out is spread evenly over those classes."""
    classes, own = opinion.classes[rows], labels[rows].unsqueeze(1)
    found = torch.full((len(own), n_classes), float("nan"), dtype=torch.float64)
    found.scatter_(1, own, opinion.own[rows].double().exp().unsqueeze(1))
    found.scatter_(1, classes, opinion.log_shares[rows].double().exp())
    missing = found.isnan()
    rest = (1.0 - found.nan_to_num(0.0).sum(1, keepdim=True)).clamp_min(0.0)
    found = torch.where(missing, rest / missing.sum(1, keepdim=True).clamp_min(1), found)
    probabilities: np.ndarray = (found / found.sum(1, keepdim=True)).numpy()
    return probabilities
