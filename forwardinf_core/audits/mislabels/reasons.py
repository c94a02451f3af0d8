"""Why a row is suspected, in words: what held-out models say, what lies near it, what the trusted rows do to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NEAR_EMPTY = 5  # rows of a class below which models and neighbours know too little of it
TOLD_SHARE = 0.05  # a share below it is not worth a sentence


@dataclass(frozen=True)
class Case:
    """What is known of one row."""

    classes: tuple[str, ...]
    label: int
    suggested: int
    shares: dict[int, float]  # by class, of the models that did not learn this row
    neighbour_labels: NDArray[np.int64]
    against_labels: NDArray[np.int64]  # of the trusted rows that pull it away from its label, strongest first
    signals: dict[str, float]
    class_size: int


def reasons_for(case: Case) -> tuple[str, ...]:
    """Return the sentences, the weightiest first."""
    sentences = [*_held_out(case), *_trusted(case), *_neighbours(case), *_own_model(case), *_rare(case)]
    return tuple(sentences)


def _name(case: Case, code: int) -> str:
    return f"‘{case.classes[code]}’"


def _held_out(case: Case) -> list[str]:
    if not case.shares:
        return []
    best = max(case.shares, key=lambda code: case.shares[code])
    own = case.shares.get(case.label, 0.0)
    if best == case.label:
        return [f"A model that did not learn this row agrees with {_name(case, best)} ({_percent(own)})."]
    said = f"A model that did not learn this row says {_name(case, best)} {_percent(case.shares[best])}"
    return [f"{said} and {_name(case, case.label)} {_percent(own)}."]


def _trusted(case: Case) -> list[str]:
    if not len(case.against_labels):
        return []
    code = int(case.against_labels[0])
    alike = int((case.against_labels == code).sum())
    which = (
        f"{alike} trusted {_name(case, code)} rows pull" if alike > 1 else f"A trusted {_name(case, code)} row pulls"
    )
    return [f"{which} it away from {_name(case, case.label)}."]


def _neighbours(case: Case) -> list[str]:
    total = len(case.neighbour_labels)
    if not total:
        return []
    codes, counts = np.unique(case.neighbour_labels, return_counts=True)
    best = int(codes[counts.argmax()])
    same = int(counts[codes == case.label].sum())
    if best == case.label:
        return [f"{same} of its {total} nearest rows are {_name(case, best)} too."]
    return [f"{int(counts.max())} of its {total} nearest rows are {_name(case, best)}, {same} are like its label."]


def _own_model(case: Case) -> list[str]:
    loss = case.signals.get("loss")
    if loss is None or case.suggested == case.label:
        return []
    share = float(np.exp(-loss))
    if share < 0.5:
        return [f"The model itself, which learnt this row, gives its label only {_percent(share)}."]
    return [f"The model has learnt this label ({_percent(share)}); it may have learnt it by heart."]


def _rare(case: Case) -> list[str]:
    if case.class_size >= NEAR_EMPTY:
        return []
    rows = "this row alone" if case.class_size == 1 else f"only {case.class_size} rows"
    return [f"{_name(case, case.label)} has {rows}: too few to judge by; look at it yourself."]


def _percent(share: float) -> str:
    if share > 0.995:
        return "over 99%"
    return f"{100 * share:.0f}%" if share >= 0.01 else "under 1%"
