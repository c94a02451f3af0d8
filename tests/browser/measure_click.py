"""Measure a click on a test row until the helped and hurt galleries are drawn with their pictures, warm.

    python -m tests.browser.measure_click [URL of a running app]

Prints one line of JSON: median, 90th percentile and every measurement, in milliseconds, and the load of the machine.
"""

from __future__ import annotations

import json
import os
import statistics
import sys

from playwright.sync_api import Page, sync_playwright

from tests.browser.conftest import ARGUMENTS, CHROMIUM, drawn

CLICKS, WARM_UP = 24, 4
FINISHED = """async (id) => {
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
  const before = ['Rows that helped', 'Rows that hurt'].map((label) => gallery(label)?.firstElementChild)
  const tile = [...gallery('Test rows').children].find((option) => option.dataset.id === id)
  tile.click()
  return await new Promise((resolve) => {
    const look = () => {
      const now = ['Rows that helped', 'Rows that hurt'].map(gallery)
      const changed = now.every((list, index) => list && list.firstElementChild !== before[index])
      const ready = changed && now.every((list) => [...list.querySelectorAll('img')].every((image) => image.complete))
      ready ? resolve(performance.now() - started) : requestAnimationFrame(look)
    }
    requestAnimationFrame(look)
  })
}"""


def measure(page: Page, url: str) -> list[float]:
    """Return how long each click took, the first ones left out."""
    page.goto(f"{url}/attribution")
    drawn(page)
    rows = page.get_by_role("listbox", name="Test rows").get_by_role("option")
    rows.first.click()
    page.get_by_role("listbox", name="Rows that hurt").get_by_role("option").first.wait_for()
    drawn(page)
    names = [tile.get_attribute("data-id") for tile in rows.all()]
    taken = []
    for turn in range(WARM_UP + CLICKS):
        taken.append(page.evaluate(FINISHED, names[(turn + 1) % len(names)]))
        drawn(page)
    return taken[WARM_UP:]


def main(url: str) -> None:
    """Measure and print."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        taken = measure(browser.new_page(viewport={"width": 1440, "height": 900}), url)
        browser.close()
    summary = {
        "median_ms": round(statistics.median(taken)),
        "p90_ms": round(statistics.quantiles(taken, n=10)[-1]),
        "clicks_ms": [round(each) for each in taken],
        "load": os.getloadavg()[0],
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8501")
