"""Numbers and names of the data in words a person reads, safe to put into Markdown."""

from __future__ import annotations

import math
import re

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~:$&@^=/])")


def plain(text: str) -> str:
    """Return text from the data so that Markdown shows it letter by letter, on one line."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def class_name(classes: tuple[str, ...], code: int) -> str:
    """Return the name of a class, or that the row has none."""
    return classes[code] if 0 <= code < len(classes) else "no label"


def share(value: float) -> str:
    """Return a share as a percentage a person reads: 87%, 99.6%, under 0.1%."""
    if not math.isfinite(value):
        return "–"
    percent = 100 * value
    if 0 < percent < 0.1:
        return "under 0.1%"
    if 99.9 < percent < 100:
        return "over 99.9%"
    return f"{percent:.1f}%" if percent < 1 or 99 < percent < 100 else f"{percent:.0f}%"


def whole_percent(value: float) -> str:
    """Return a share in whole percent for narrow places, rounded down so that only certainty is 100%."""
    return f"{math.floor(100 * value)}%" if math.isfinite(value) else "–"


def standing(score: float, percentile: float) -> str:
    """Return where a score stands among all rows, counted from the nearer end: "top 0.3%", "bottom 2%"."""
    if score == 0:
        return "no effect"
    outer = 100 - percentile if score > 0 else percentile
    for step in (0.1, 0.5, 1):
        if outer <= step:
            return f"{'top' if score > 0 else 'bottom'} {step:g}%"
    return f"{'top' if score > 0 else 'bottom'} {math.ceil(outer):d}%"


def effect(score: float) -> str:
    """Return what a score means, in one word."""
    return "helped" if score > 0 else "hurt" if score < 0 else "no effect"


def signed(score: float) -> str:
    """Return a score with its sign and three digits that count."""
    if score == 0:
        return "0"
    return f"{score:+.3g}".replace("-", "\u2212")


def counted(count: int, one: str, many: str = "") -> str:
    """Return a count with its noun: "1 row", "1,437 rows"."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def size(count: int) -> str:
    """Return a number of bytes as people say it."""
    value, units = float(count), ["bytes", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.0f} {units[0]}" if units[0] == "bytes" or value >= 10 else f"{value:.1f} {units[0]}"


def duration(seconds: float) -> str:
    """Return how long something took: 4 ms, 1.2 s, 3 min."""
    if seconds < 1:
        return f"{max(1, round(seconds * 1000))} ms"
    return f"{seconds:.1f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
