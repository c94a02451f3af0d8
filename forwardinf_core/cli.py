"""The command line: the same audits without a screen. ``python -m forwardinf_core COMMAND …``

Exit 0: done. Exit 2: the person's mistake, in one line. Exit 1: our fault, in one line, the rest in a log file. Exit
130: interrupted from the keyboard. Commands import what is heavy when they run, so that ``--help`` is quick.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import typer

from forwardinf_core.commands import (
    attribute,
    bench,
    export,
    generation,
    jobs,
    leakage,
    memorization,
    mislabels,
    project,
    runs,
    trace,
    verify,
)
from forwardinf_core.errors import AuditError, CancelledError

OURS, THEIRS, INTERRUPTED = 1, 2, 130

app = typer.Typer(
    name="forwardinf",
    help="Which training rows did this? PROJECT is a folder with project.yaml, or demo:NAME.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for group in (
    project,
    attribute,
    generation,
    trace,
    mislabels,
    leakage,
    memorization,
    verify,
    export,
    runs,
    jobs,
    bench,
):
    group.register(app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="copyreg")  # torch's own, of its own trees
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # a line of our own says how far work is
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    try:
        app(args=None if arguments is None else list(arguments), prog_name="python -m forwardinf_core")
    except SystemExit as end:  # how the parser ends, also for a mistake in the arguments (2)
        return end.code if isinstance(end.code, int) else OURS
    except (KeyboardInterrupt, CancelledError):
        print("Stopped. What is finished is kept; the same command goes on from there.", file=sys.stderr)
        return INTERRUPTED
    except AuditError as error:
        print(f"{error.title} {error.hint}".strip(), file=sys.stderr)
        return THEIRS
    except Exception as error:  # noqa: BLE001  # the last resort, and only here
        print(f"The program failed ({type(error).__name__}). {_written(error)}", file=sys.stderr)
        return OURS
    return 0


def _written(error: Exception) -> str:
    """Write the traceback to a log file, and say where; without a place to write, say it all."""
    from forwardinf_core.projects.places import user_folder

    path: Path = user_folder() / "logs" / f"failure-{datetime.now().strftime('%Y%m%d-%H%M%S')}.log"
    text = "".join(traceback.format_exception(error))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError:
        return text
    return f"The details are in {path}."
