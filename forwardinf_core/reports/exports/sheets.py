"""CSV that a person may open in a spreadsheet: a text that would be taken for a formula is made to stay a text."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # the last: full width


def harmless(value: object) -> object:
    """Return a cell that no spreadsheet runs: texts that begin like a formula get an apostrophe before them."""
    if isinstance(value, str) and value.lstrip(" ").startswith(FORMULA):
        return f"'{value}"
    return value


def write_sheet(columns: Mapping[str, Sequence[object]], path: Path) -> None:
    """Write columns of equal length as CSV with a header, UTF-8."""
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([harmless(name) for name in columns])
        for values in zip(*columns.values(), strict=True):
            writer.writerow(["" if value is None else harmless(value) for value in values])
