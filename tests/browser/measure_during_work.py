"""Measure clicks on test rows while the worker is idle and while it computes on every core, in turn.

    FORWARDINF_HOME=HOME python -m tests.browser.measure_during_work PROJECT URL [--rounds 3]

HOME and PROJECT are those of the running app at URL. The work is the job that `bench jobs` measures: matrix products
without end, cancelled after each round. Prints one line of JSON without it and one with it.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from forwardinf_core.jobs import run
from forwardinf_core.jobs.measure import MeasureOptions
from tests.browser.conftest import ARGUMENTS, CHROMIUM, wait_until
from tests.browser.measure_click import ROUNDS, Seen, summary, visit

BEGIN_S = 120.0


def main(project: Path, url: str, rounds: int) -> None:
    """Measure and print."""
    idle, busy = Seen(), Seen()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        for _ in range(rounds):
            visit(browser, url, idle)
            job = run.submit("measure", project, MeasureOptions(chunks=100_000, seed=time.time_ns() % 2**31))
            try:
                wait_until(lambda job=job: run.status(job).done > 0, BEGIN_S)  # type: ignore[misc]
                visit(browser, url, busy)
                assert run.status(job).state == "running", "the work ended before the clicks did"
            finally:
                run.cancel(job)
                wait_until(lambda job=job: not run.status(job).is_active, BEGIN_S)  # type: ignore[misc]
        browser.close()
    for name, seen in (("idle", idle), ("with a job", busy)):
        print(json.dumps({"worker": name, **summary(seen), "load": os.getloadavg()[0]}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("project", type=Path)
    parser.add_argument("url")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    main(arguments.project, arguments.url, arguments.rounds)
