"""One line on standard error that says how far long work is; nothing where nobody watches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_line(*, quiet: bool = False) -> Iterator[Callable[[float, str], None]]:
    """Yield report(fraction, note). Silent with ``quiet`` or where standard error is no terminal."""
    shown = sys.stderr.isatty() and not quiet

    def report(fraction: float, note: str) -> None:
        if shown:
            filled = round(24 * fraction)
            print(
                f"\r{'█' * filled}{'░' * (24 - filled)} {100 * fraction:3.0f}% {note[:60]:<60}", end="", file=sys.stderr
            )

    try:
        yield report
    finally:
        if shown:
            print(f"\r{' ' * 92}\r", end="", file=sys.stderr)
