"""``check`` for language projects: all is opened, a few texts are read, and what a pass costs is measured."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from forwardinf_core.audits.tracing.opening import load_tracing
from forwardinf_core.errors import DataError
from forwardinf_core.influence.language_replay import entering_last_block
from forwardinf_core.models.language_completion import losses_of_tokens
from forwardinf_core.models.language_text import pieces_of

SAMPLE = 200  # texts
BATCH = 50
FLOAT_BYTES = 4


@dataclass(frozen=True)
class LanguageCheck:
    """What was found. ``pass_seconds`` and ``tokens`` are scaled up from a sample of evenly spread texts."""

    texts: int
    unscored: int  # of the sample: fewer than two tokens, so nothing in them is predicted
    tokens: int
    parameters: int
    context: int
    pass_seconds: float
    hidden_bytes: int
    is_ready: bool = True


def check_language(ref: str | Path) -> LanguageCheck:
    """Open a project, read a sample of its texts with its model, and say what a pass costs.

    Raises ProjectError, DataError or ModelError with the first thing that is wrong.
    """
    audit = load_tracing(ref)
    n_texts = len(audit.texts)
    chosen = np.unique(np.linspace(0, n_texts - 1, min(n_texts, SAMPLE)).astype(np.int64)).tolist()
    targets = audit.project.texts.targets
    pieces = pieces_of(
        audit.model,
        [audit.texts[place] for place in chosen],
        None if targets is None else [targets[place] for place in chosen],
    )
    if not len(pieces):
        raise DataError(
            "No text of the corpus has two tokens or more.", hint="Check the column that text: names in project.yaml."
        )
    groups = [range(start, min(start + BATCH, len(pieces))) for start in range(0, len(pieces), BATCH)]
    width = entering_last_block(audit.model.module, audit.model.objective, pieces.batch([0]))[0].shape[-1]
    started = time.perf_counter()
    for group in groups:
        losses_of_tokens(audit.model, pieces.batch(group))
    factor = n_texts / len(chosen)
    tokens = round(factor * sum(pieces.lengths))
    return LanguageCheck(
        n_texts,
        len(chosen) - len(set(pieces.document.tolist())),
        tokens,
        sum(value.numel() for value in audit.model.module.parameters()),
        audit.model.context,
        factor * (time.perf_counter() - started),
        tokens * int(width) * FLOAT_BYTES,
    )
