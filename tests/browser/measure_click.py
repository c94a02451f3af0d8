"""Measure a click on a test row: until the helped and hurt galleries stand with their pictures, and until all stands.

    python -m tests.browser.measure_click URL [URL of another version ...] [--rounds 4]

Visits the apps in turn (A, B, A, B), so that all of them see the same load of the machine. Prints one line of JSON for
each: median and 90th percentile in milliseconds, the browser's main thread and what the server sent for one click.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from playwright.sync_api import Browser, Page, WebSocket, sync_playwright

from tests.browser.conftest import ARGUMENTS, CHROMIUM, drawn

CLICKS, WARM_UP, ROUNDS = 8, 3, 3
QUIET_MS = 600  # no message and no change of the page for so long: all stands
CLICK = """async ([id, quiet]) => {
  const within = (root, label) => {
    const found = root.querySelector(`.gallery[aria-label='${label}']`)
    if (found) return found
    for (const element of root.querySelectorAll('*')) {
      const deeper = element.shadowRoot && within(element.shadowRoot, label)
      if (deeper) return deeper
    }
  }
  const known = {}
  const gallery = (label) => (known[label]?.isConnected ? known[label] : (known[label] = within(document, label)))
  const started = performance.now()
  const labels = ['Rows that helped', 'Rows that hurt']
  const before = labels.map((label) => gallery(label)?.firstElementChild)
  const app = document.querySelector('[data-testid=stApp]')
  let changed = started
  const watch = new MutationObserver(() => (changed = performance.now()))
  watch.observe(document.body, { subtree: true, childList: true, characterData: true })
  const tile = [...gallery('Test rows').children].find((option) => option.dataset.id === id)
  tile.click()
  let galleries = 0
  return await new Promise((resolve) => {
    const look = () => {
      const lists = labels.map(gallery)
      const pictures = (list) => [...list.querySelectorAll('img')].every((image) => image.complete)
      const stands = lists.every((list, index) => list && list.firstElementChild !== before[index] && pictures(list))
      if (stands && !galleries) galleries = performance.now() - started
      const idle = app.dataset.testScriptState === 'notRunning' && performance.now() - changed > quiet
      if (galleries && idle) {
        watch.disconnect()
        resolve([galleries, Math.max(changed - started, galleries)])
      } else requestAnimationFrame(look)
    }
    requestAnimationFrame(look)
  })
}"""


@dataclass
class Seen:
    """What was measured of one app, a number a click."""

    galleries_ms: list[float] = field(default_factory=list)
    all_ms: list[float] = field(default_factory=list)
    main_thread_ms: list[float] = field(default_factory=list)
    received_bytes: list[float] = field(default_factory=list)


def visit(browser: Browser, url: str, seen: Seen) -> None:
    """Click through test rows in a fresh page, the first clicks uncounted."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    received = [0]

    def on_socket(socket: WebSocket) -> None:
        socket.on("framereceived", lambda data: received.__setitem__(0, received[0] + len(data)))

    page.on("websocket", on_socket)
    page.goto(f"{url}/attribution")
    drawn(page)
    rows = page.get_by_role("listbox", name="Test rows").get_by_role("option")
    rows.first.click()
    page.get_by_role("listbox", name="Rows that hurt").get_by_role("option").first.wait_for()
    drawn(page)
    names = [tile.get_attribute("data-id") for tile in rows.all()]
    busy = busy_ms(page)
    for turn in range(WARM_UP + CLICKS):
        page.wait_for_timeout(QUIET_MS)
        before, received[0] = busy(), 0
        galleries, everything = page.evaluate(CLICK, [names[(turn + 1) % len(names)], QUIET_MS])
        if turn >= WARM_UP:
            seen.galleries_ms.append(galleries)
            seen.all_ms.append(everything)
            seen.main_thread_ms.append(busy() - before)
            seen.received_bytes.append(received[0])
    page.close()


def busy_ms(page: Page) -> Callable[[], float]:
    """Return a function that says how long the page's main thread has computed, in its own processor time."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.setTimeDomain", {"timeDomain": "threadTicks"})
    session.send("Performance.enable")

    def read() -> float:
        metrics = session.send("Performance.getMetrics")["metrics"]
        return 1000 * next(float(each["value"]) for each in metrics if each["name"] == "TaskDuration")

    return read


def summary(seen: Seen) -> dict[str, object]:
    """Return the medians, and the 90th percentile of the times."""
    return {
        "galleries_median_ms": round(statistics.median(seen.galleries_ms)),
        "galleries_p90_ms": round(statistics.quantiles(seen.galleries_ms, n=10)[-1]),
        "all_median_ms": round(statistics.median(seen.all_ms)),
        "all_p90_ms": round(statistics.quantiles(seen.all_ms, n=10)[-1]),
        "main_thread_median_ms": round(statistics.median(seen.main_thread_ms)),
        "received_median_kb": round(statistics.median(seen.received_bytes) / 1000, 1),
        "clicks": len(seen.galleries_ms),
    }


def main(urls: list[str], rounds: int) -> None:
    """Measure and print."""
    found: dict[str, Seen] = defaultdict(Seen)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        for _ in range(rounds):
            for url in urls:
                visit(browser, url, found[url])
        browser.close()
    for url, seen in found.items():
        print(json.dumps({"url": url, **summary(seen), "load": os.getloadavg()[0]}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("urls", nargs="*", default=["http://127.0.0.1:8501"])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    main(arguments.urls, arguments.rounds)
