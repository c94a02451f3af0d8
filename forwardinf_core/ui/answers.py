"""Attributions and predictions cut, ordered and put into words the way the screens show them. No Streamlit here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from forwardinf_core.ui import texts, thumbs, wording
from forwardinf_core.ui.components.gallery import Tile, Tone

if TYPE_CHECKING:
    from forwardinf_core.audits.audit import Audit
    from forwardinf_core.audits.records import Attribution, Prediction, TestPredictions

ORDERS = ("Wrong first", "Only wrong", "Least sure first", "As in the file")
BARS_SHOWN = 5
LABELS_SHOWN = 4
BINS = 48


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a row's score would be under another label."""

    code: int
    score: float


@dataclass(frozen=True, slots=True)
class Bins:
    """Scores counted for the histogram. ``constant`` is the width of the scale's linear middle (Vega's symlog)."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    count: NDArray[np.int64]
    constant: float

    def place(self, score: float) -> float:
        """Return where a score stands on the scale, 0 (left) to 1."""
        reach = np.log1p(float(self.high[-1]) / self.constant)
        at = np.sign(score) * np.log1p(abs(score) / self.constant) / reach
        return float(np.clip((1 + at) / 2, 0.0, 1.0))


def browse(
    predictions: TestPredictions, ids: Sequence[str], *, order: str, code: int | None, search: str
) -> NDArray[np.int64]:
    """Return the positions of the test rows to show, in the order asked for; ``code`` keeps one label or prediction."""
    wrong = (predictions.label >= 0) & (predictions.prediction != predictions.label)
    keep = np.ones(len(ids), dtype=bool)
    if order == "Only wrong":
        keep &= wrong
    if code is not None:
        keep &= (predictions.label == code) | (predictions.prediction == code)
    if search.strip():
        keep &= np.array([search.strip().casefold() in name.casefold() for name in ids], dtype=bool)
    if order in {"Wrong first", "Only wrong"}:
        ranked = np.lexsort((-predictions.confidence, ~wrong))
    elif order == "Least sure first":
        ranked = np.argsort(predictions.confidence, kind="stable")
    else:
        ranked = np.arange(len(ids))
    return ranked[keep[ranked]].astype(np.int64)


def query_tiles(audit: Audit, project_ref: str, positions: NDArray[np.int64]) -> list[Tile]:
    """Return tiles of test rows: what the model says, and the label where it says otherwise."""
    said = audit.predictions()
    tiles = []
    for position in positions.tolist():
        name = wording.class_name(audit.classes, int(said.prediction[position]))
        label = int(said.label[position])
        wrong = label >= 0 and label != said.prediction[position]
        tiles.append(
            Tile(
                id=f"test:{audit.test_ids[position]}",
                src=thumbs.address(project_ref, "test", position),
                text=texts.on_tile(audit, "test", position),
                title=f"{name}, not {audit.classes[label]}" if wrong else name,
                tone="hurt" if wrong else "neutral",
                note="" if wrong else wording.whole_percent(float(said.confidence[position])),
                hint=f"{audit.test_ids[position]}: the model says {name}, "
                f"{wording.share(float(said.confidence[position]))} sure; "
                f"label: {wording.class_name(audit.classes, label)}",
            )
        )
    return tiles


def training_tiles(audit: Audit, project_ref: str, answer: Attribution, positions: NDArray[np.int64]) -> list[Tile]:
    """Return tiles of training rows with their standing among all scores and a line as long as their effect."""
    scores = answer.scores
    largest = float(np.abs(scores.score).max(initial=0.0)) or 1.0
    tiles = []
    for position in positions.tolist():
        score, percentile = float(scores.score[position]), float(scores.percentile[position])
        label = wording.class_name(audit.classes, int(audit.train_labels[position]))
        standing = wording.standing(score, percentile)
        planted = audit.planted(position)
        tiles.append(
            Tile(
                id=audit.train_ids[position],
                src=thumbs.source(audit, project_ref, "train", position),
                text=texts.on_tile(audit, "train", position),
                title=label,
                note=standing.removeprefix("top ").removeprefix("bottom "),
                tone=tone_of(score),
                strength=abs(score) / largest,
                badge="planted" if planted else "",
                hint=f"{audit.train_ids[position]}: {wording.effect(score)}, {standing} of all rows"
                + (f". {planted}" if planted else ""),
            )
        )
    return tiles


def tone_of(score: float) -> Tone:
    """Return the colour family of a score."""
    return "helped" if score > 0 else "hurt" if score < 0 else "neutral"


def class_shares(prediction: Prediction, asked: int) -> list[int]:
    """Return the classes whose probability is shown: the likeliest, and always the label and the class asked about."""
    likeliest = np.argsort(-prediction.probabilities, kind="stable").tolist()
    must = [code for code in dict.fromkeys((prediction.prediction, prediction.label, asked)) if code >= 0]
    shown = set(must) | set([code for code in likeliest if code not in must][: max(0, BARS_SHOWN - len(must))])
    return [code for code in likeliest if code in shown]


def open_row(answer: Attribution, wanted: str, train_ids: Sequence[str]) -> int | None:
    """Return the position of the row in the link, or of the row that says most: hurt where the model is wrong."""
    if wanted:
        return next((position for position, name in enumerate(train_ids) if name == wanted), None)
    wrong = answer.prediction.label >= 0 and answer.prediction.label != answer.prediction.prediction
    ends = (answer.scores.bottom(1), answer.scores.top(1)) if wrong else (answer.scores.top(1), answer.scores.bottom(1))
    return next((int(end[0]) for end in ends if len(end)), None)


def candidates(scores: NDArray[np.float32], own: int, asked: int) -> list[Candidate]:
    """Return the labels worth comparing: the row's own, the class asked about, the most helpful, the most harmful."""
    chosen = dict.fromkeys([own, asked, int(scores.argmax()), *np.argsort(-scores, kind="stable").tolist()])
    kept = [code for code in chosen if 0 <= code < len(scores)][:LABELS_SHOWN]
    return [Candidate(code, float(scores[code])) for code in kept]


def bin_scores(score: NDArray[np.float32], count: int = BINS) -> Bins:
    """Return counts in bins of equal width on a scale that is linear near 0 and logarithmic further out."""
    magnitude = np.abs(score[score != 0]).astype(np.float64)
    constant = float(np.median(magnitude)) if magnitude.size else 1.0
    stretched = np.sign(score) * np.log1p(np.abs(score.astype(np.float64)) / constant)
    reach = float(np.abs(stretched).max(initial=0.0)) or 1.0
    edges = np.linspace(-reach, reach, count + 1)
    counts, _ = np.histogram(stretched, bins=edges)
    values = np.sign(edges) * np.expm1(np.abs(edges)) * constant
    return Bins(values[:-1], values[1:], counts.astype(np.int64), constant)


def in_range(score: NDArray[np.float32], low: float, high: float) -> NDArray[np.int64]:
    """Return the positions of the rows with a score from low to high, strongest effect first."""
    found = np.flatnonzero((score >= low) & (score <= high))
    return found[np.argsort(-np.abs(score[found]), kind="stable")].astype(np.int64)


@dataclass(frozen=True, slots=True)
class Likeness:
    """How much two answers have in common: shared rows among those shown, rank agreement of all scores (−1 to 1)."""

    helped: frozenset[int]
    hurt: frozenset[int]
    crossed: frozenset[int]  # helped one, hurt the other
    agreement: float


def liken(one: Attribution, other: Attribution, shown: int) -> Likeness:
    """Compare two answers about different queries."""
    top = [set(answer.scores.top(shown).tolist()) for answer in (one, other)]
    bottom = [set(answer.scores.bottom(shown).tolist()) for answer in (one, other)]
    ranks = [np.argsort(np.argsort(answer.scores.score, kind="stable")) for answer in (one, other)]
    agreement = float(np.corrcoef(ranks[0], ranks[1])[0, 1]) if len(ranks[0]) > 1 else 0.0
    crossed = (top[0] & bottom[1]) | (bottom[0] & top[1])
    return Likeness(frozenset(top[0] & top[1]), frozenset(bottom[0] & bottom[1]), frozenset(crossed), agreement)


def turning_label(scores: NDArray[np.float32], own: int) -> int | None:
    """Return the label under which the row's effect would turn round the most, or None where no label turns it."""
    if not 0 <= own < len(scores) or scores[own] == 0:
        return None
    best = int(scores.argmax() if scores[own] < 0 else scores.argmin())
    return best if scores[best] * scores[own] < 0 else None
