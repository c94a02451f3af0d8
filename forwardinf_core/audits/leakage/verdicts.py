"""From evidence to a verdict with its reasons in words."""

from __future__ import annotations

from collections.abc import Mapping

from forwardinf_core.audits.leakage.records import CONTENT, EXACT, NEAR, NONE, OTHER_LABEL, SAME_LABEL, Pair
from forwardinf_core.audits.leakage.traces import GREY, HASH
from forwardinf_core.influence.probe import FEATURES, HALFWAY

SURE = 0.5  # from this confidence on, a row counts as a copy
NEAR_GREY, NEAR_BITS = 0.95, 8  # a near copy: pixels correlate so, and at most so many bits of the hash differ
BITS = 64
STRIKING = 0.5  # of an influence cosine: half of the row's pull goes the query's way

SIGNAL_WORDS = {
    HASH: "perceptual hash",
    GREY: "grey picture",
    HALFWAY: "activations half-way",
    FEATURES: "features before the head",
}


def bits_differing(likeness: float) -> int:
    """Return how many of the 64 bits of two perceptual hashes differ."""
    return round(BITS * (1 - likeness) / 2)


def verdict_of(score: float, signals: Mapping[str, float], *, is_identical: bool) -> str:
    """Return the verdict on a pair."""
    if is_identical:
        return EXACT
    if score < SURE:
        return NONE
    is_near = signals[GREY] >= NEAR_GREY and bits_differing(signals[HASH]) <= NEAR_BITS
    return NEAR if is_near else CONTENT


def reasons_of(pair: Pair) -> tuple[str, ...]:
    """Return why a pair has its verdict, the strongest reason first, in sentences."""
    found = []
    if pair.verdict == EXACT:
        found.append("Both files hold the same pixels.")
    else:
        bits = bits_differing(pair.signals[HASH])
        found.append(f"As small grey pictures they correlate {pair.signals[GREY]:.2f}; {bits} of 64 hash bits differ.")
        if HALFWAY in pair.signals:
            found.append(
                f"Half-way through the model their activations have a cosine of {pair.signals[HALFWAY]:.2f}, "
                f"{pair.stands_out[HALFWAY]:.2f} above the tenth nearest row."
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
