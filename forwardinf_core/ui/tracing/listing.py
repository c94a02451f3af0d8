"""Traced texts cut, ordered and put into words the way the screen shows them. No Streamlit here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from forwardinf_core.influence.scores import percentiles
from forwardinf_core.ui import wording
from forwardinf_core.ui.answers import tone_of
from forwardinf_core.ui.components.gallery import Tone
from forwardinf_core.ui.components.passages import Passage, Run

if TYPE_CHECKING:
    from forwardinf_core.audits.tracing.records import TokenShare, Trace

SHOWN = 10
TOKENS_SHOWN = 60  # of a long text, around its strongest passage
FAINTEST = 0.12  # share of the strongest token below which nothing is marked


def order_of(trace: Trace, ranking: str, keep: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the positions to show for a ranking, best first, among those kept."""
    if ranking == "helped":
        found = trace.helped(len(keep))
    elif ranking == "hurt":
        found = trace.hurt(len(keep))
    else:
        found = trace.scores.ranking(ranking)
        if ranking in ("bm25", "overlap"):
            found = found[getattr(trace.scores, ranking)[found] > 0]
    return found[keep[found]][:SHOWN]


def runs_of(shares: Sequence[TokenShare]) -> tuple[Run, ...]:
    """Return a text as stretches, its strongest tokens marked; a long one opens at its strongest passage."""
    sizes = np.array([abs(share.score) for share in shares])
    largest = float(sizes.max(initial=0.0)) or 1.0
    start, stop = _window(sizes)
    runs = [Run("… ")] if start else []
    for share in shares[start:stop]:
        part = share.score / largest
        runs.append(Run(share.text, part if abs(part) >= FAINTEST else 0.0))
    return tuple(runs + ([Run(" …")] if stop < len(shares) else []))


def passage(
    trace: Trace, own_id: str, position: int, shares: Sequence[TokenShare], known: str, standing: NDArray[np.float32]
) -> Passage:
    """Return one text as the list shows it. ``standing`` are percentiles of influence, (n,)."""
    scores = trace.scores
    score = float(scores.influence[position])
    words = int(scores.overlap[position])
    return Passage(
        id=own_id,
        runs=runs_of(shares),
        effect=f"{wording.effect(score)}, {wording.standing(score, float(standing[position]))}",
        tone=tone_of(score),
        facts=(
            ("BM25", _rank(scores.bm25, position)),
            ("alike", f"{float(scores.embedding[position]):.2f}"),
            ("verbatim", wording.counted(words, "word")),
        ),
        badge=known,
        badge_tone=_tone(known),
    )


def standings(trace: Trace) -> NDArray[np.float32]:
    """Return where each text's influence stands among all, 0 to 100."""
    return percentiles(trace.scores.influence)


def truth_line(known: Sequence[str]) -> str:
    """Return how many of the texts shown state the fact, where that is known; empty where it is not."""
    if not known or not any(known):
        return ""
    stating = sum(word == "States this fact" for word in known)
    false = sum(word == "False on purpose" for word in known)
    parts = [f"{stating} of the {len(known)} shown state this fact"] if stating or not false else []
    if false:
        parts.append(f"{false} of the {len(known)} shown were made false on purpose")
    return "; ".join(parts) + "."


def _tone(known: str) -> Tone:
    return "helped" if known == "States this fact" else "hurt" if known else "neutral"


def _rank(values: NDArray[np.float32], position: int) -> str:
    if values[position] <= 0:
        return "no word in common"
    return f"#{int((values > values[position]).sum()) + 1:,}"


def _window(sizes: NDArray[np.float64]) -> tuple[int, int]:
    if len(sizes) <= TOKENS_SHOWN:
        return 0, len(sizes)
    sums = np.convolve(sizes, np.ones(TOKENS_SHOWN), mode="valid")
    start = int(sums.argmax())
    return start, start + TOKENS_SHOWN
