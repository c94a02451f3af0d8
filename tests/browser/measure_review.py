"""Measure the review screen: keys at 20 ms, and a project of 50,000 suspects made by repeating the digits demo's rows.

    python -m tests.browser.measure_review [ROWS]

The demo is copied with every row repeated under ids of its own, searched for wrong labels for real, and opened in a
browser. Prints one line of JSON: milliseconds (median, 90th percentile) to open the page, to filter by class and to
brush, from a key to the next row on screen, and decisions a minute with none lost; with the load of the machine.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from playwright.sync_api import FloatRect, Locator, Page, sync_playwright

from tests.browser.conftest import ARGUMENTS, CHROMIUM, ROOT, drawn, running_app

TURNS = 12
KEYS, GAP_MS = 60, 20
STEADY_MS, POLL_MS = 250, 5
PATIENCE_MS = 300_000  # for the first opening: the project is prepared then
KEY_TO_ROW = """async ([keys, gap]) => {
  const deck = (function find(root) {
    for (const one of root.querySelectorAll('*')) {
      if (one.classList?.contains('deck')) return one
      const deeper = one.shadowRoot && find(one.shadowRoot)
      if (deeper) return deeper
    }
  })(document)
  const taken = []
  const started = performance.now()
  for (let turn = 0; turn < keys; turn += 1) {
    const before = deck.dataset.cursor
    const pressed = performance.now()
    document.body.dispatchEvent(new KeyboardEvent('keydown', { key: 'k', bubbles: true, composed: true }))
    if (deck.dataset.cursor === before) throw new Error(`key ${turn} moved nothing`)
    taken.push(performance.now() - pressed)
    await new Promise((resolve) => setTimeout(resolve, gap))
  }
  return { taken, seconds: (performance.now() - started) / 1000 }
}"""


def repeated(demo: Path, folder: Path, rows: int) -> Path:
    """Copy a demo with its training rows repeated up to a number, each under an id of its own."""
    shutil.copytree(demo, folder, ignore=shutil.ignore_patterns(".audit"))
    table = pq.read_table(folder / "train.parquet")
    times = -(-rows // len(table))
    many = pa.concat_tables([table] * times).slice(0, rows)
    ids = [f"{row}-{at:05d}" for at, row in enumerate(many.column("id").to_pylist())]
    many = many.set_column(many.schema.get_field_index("id"), "id", pa.array(ids))
    pq.write_table(many, folder / "train.parquet", row_group_size=1000)
    return folder


def spread(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 1), "p90": round(statistics.quantiles(values, n=10)[-1], 1)}


def timed(page: Page, url: str) -> float:
    """Return the milliseconds from going to an address until its first row is on screen."""
    start = time.perf_counter()
    page.goto(url)
    page.locator(".deck[data-state=card] .picture img").first.wait_for(timeout=PATIENCE_MS)
    drawn(page)
    return 1000 * (time.perf_counter() - start)


def shown(page: Page) -> str:
    return page.locator(".deck .where").inner_text()


def lowest(page: Page) -> str:
    """Return the lower end of the brushed range; the address changes with the queue on screen."""
    return page.url.partition("low=")[2].partition("&")[0]


def steady(chart: Locator) -> FloatRect:
    """Return where a part of the page is once it no longer moves: what was filtered before shows above it."""
    box = chart.bounding_box()
    while True:
        chart.page.wait_for_timeout(STEADY_MS)
        known, box = box, chart.bounding_box()
        if box is not None and box == known:
            return box


def brushed(page: Page, turn: int) -> float:
    """Drag over the histogram and return the milliseconds from letting go until another queue is on screen."""
    box = steady(page.locator(".spread .plot"))
    before, middle = lowest(page), box["y"] + box["height"] / 3
    left = box["x"] + box["width"] * (0.05 + 0.05 * turn)  # other bars than the last time
    page.mouse.move(left, middle)
    page.mouse.down()
    page.mouse.move(left + box["width"] * 0.3, middle, steps=4)
    page.mouse.up()
    start = time.perf_counter()
    while lowest(page) == before:
        assert time.perf_counter() - start < 20, "the brush changed nothing"
        page.wait_for_timeout(POLL_MS)
    return 1000 * (time.perf_counter() - start)


def measure(page: Page, url: str) -> dict[str, object]:
    timed(page, f"{url}/review")  # the first opening reads the suspects
    opening = [timed(page, f"{url}/review") for _ in range(TURNS)]
    filtering = [timed(page, f"{url}/review?rows=all&label={turn % 10}") for turn in range(TURNS)]
    timed(page, f"{url}/review?rows=all")
    brushing = [brushed(page, turn) for turn in range(TURNS)]
    timed(page, f"{url}/review?rows=all")
    total = int(shown(page).split(" of ")[1].replace(",", ""))
    found = page.evaluate(KEY_TO_ROW, [KEYS, GAP_MS])
    page.locator(".saved[data-state=saved]").wait_for(timeout=60_000)
    timed(page, f"{url}/review?rows=all")
    left = int(shown(page).split(" of ")[1].replace(",", ""))
    return {
        "rows": total,
        "open_ms": spread(opening),
        "filter_by_link_ms": spread(filtering),
        "brush_ms": spread(brushing),
        "key_to_next_row_ms": spread(found["taken"]),
        "decisions_a_minute": round(KEYS / found["seconds"] * 60),
        "keys": KEYS,
        "lost": KEYS - (total - left),
    }


def main(rows: int) -> None:
    """Build, search, measure and print."""
    with tempfile.TemporaryDirectory(prefix="forwardinf-review-") as made:
        home = Path(made)
        surroundings = {**os.environ, "FORWARDINF_HOME": str(home)}
        command = [sys.executable, "-m", "forwardinf_core"]
        subprocess.run([*command, "demo", "build", "digits"], check=True, cwd=ROOT, env=surroundings)
        folder = repeated(home / "demos" / "digits", home / "many", rows)
        start = time.perf_counter()
        subprocess.run(
            [*command, "mislabels", str(folder), "--json"],
            check=True,
            cwd=ROOT,
            env=surroundings,
            stdout=subprocess.DEVNULL,
        )
        searching = time.perf_counter() - start
        with running_app(home, project=str(folder)) as server, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
            found = measure(browser.new_page(viewport={"width": 1440, "height": 900}), server.url)
            browser.close()
    print(json.dumps({**found, "search_s": round(searching, 1), "load": os.getloadavg()[0]}))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50_000)
