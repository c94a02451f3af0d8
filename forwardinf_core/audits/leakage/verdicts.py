"""From evidence to a verdict with its reasons in words."""

from __future__ import annotations

from collections.abc import Mapping

from forwardinf_core.audits.leakage.medium import BITS, GREY, HASH, LETTERS, WORDS, Medium, is_as_like
from forwardinf_core.audits.leakage.records import CONTENT, EXACT, NEAR, NONE, OTHER_LABEL, SAME_LABEL, Pair
from forwardinf_core.influence.probe import FEATURES, HALFWAY

SURE = 0.5  # from this confidence on, a row counts as a copy
WHERE = {HALFWAY: "Half-way through the model", FEATURES: "Before the model's head"}
SAME_PIXELS = "Both files hold the same pixels."
STRIKING = 0.5  # of an influence cosine: half of the row's pull goes the query's way


def bits_differing(likeness: float) -> int:
    """Return how many of the 64 bits of two perceptual hashes differ."""
    return round(BITS * (1 - likeness) / 2)


def verdict_of(score: float, signals: Mapping[str, float], medium: Medium, *, is_identical: bool) -> str:
    """Return the verdict on a pair."""
    if is_identical:
        return EXACT
    if score < SURE:
        return NONE
    return NEAR if is_as_like(signals, medium.near) else CONTENT


def reasons_of(pair: Pair) -> tuple[str, ...]:
    """Return why a pair has its verdict, the strongest reason first, in sentences."""
    found = _of_content(pair)
    if pair.verdict != EXACT:
        inner = HALFWAY if HALFWAY in pair.signals else FEATURES
        if inner in pair.signals:
            found.append(
                f"{WHERE[inner]} their activations have a cosine of {pair.signals[inner]:.2f}, "
                f"{pair.stands_out[inner]:.2f} above the tenth nearest row (copies of one row count as one)."
            )
    if pair.is_mirrored:
        found.append("One is the mirror image of the other.")
    if pair.labels == SAME_LABEL:
        found.append("Both carry the same label.")
    elif pair.labels == OTHER_LABEL:
        found.append("They carry conflicting labels.")
    if abs(pair.influence_cosine) >= STRIKING:
        word = "helps" if pair.influence_cosine > 0 else "hurts"
        found.append(f"Through the head, the training row {word} this very row: cosine {pair.influence_cosine:+.2f}.")
    return tuple(found)


def _of_content(pair: Pair) -> list[str]:
    """Return what the rows themselves have in common, in sentences."""
    is_text, is_exact = LETTERS in pair.signals, pair.verdict == EXACT
    if is_exact:
        return ["Both texts say the same, but for case, punctuation and spaces." if is_text else SAME_PIXELS]
    if is_text:
        letters, words = (max(pair.signals[name], 0.0) for name in (LETTERS, WORDS))
        return [f"They share about {words:.0%} of their words and {letters:.0%} of their runs of four letters."]
    bits = bits_differing(pair.signals[HASH])
    return [f"As small grey pictures they correlate {pair.signals[GREY]:.2f}; {bits} of 64 hash bits differ."]
