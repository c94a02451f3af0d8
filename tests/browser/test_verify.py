"""What only a browser can show of the verify screen: one click from an answer to its check, the chart, the lights."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Server, Watched, drawn
from tests.browser.test_screens import tiles

pytestmark = [pytest.mark.browser, pytest.mark.slow]
CHECK_MS = 60_000  # the last layer is refitted 50 times


@pytest.mark.parametrize("watched", ["light", "dark"], indirect=True)
def test_one_click_leads_from_an_answer_to_whether_it_holds(server: Server, watched: Watched) -> None:
    page = watched.open(f"{server.url}/attribution")
    tiles(page, "Test rows").first.click()
    page.get_by_role("button", name="Does it hold?").click()
    expect(page).to_have_url(re.compile(r"/verify\?.*part=removal.*query=test"))
    expect(page.get_by_text("most helpful rows the query's loss")).to_be_visible(timeout=CHECK_MS)
    expect(page.get_by_test_id("stVegaLiteChart").first).to_be_visible()
    expect(tiles(page, "Removed rows").first).to_be_visible()
    link = page.url
    page.goto(link)
    drawn(page)
    expect(page.get_by_text("most helpful rows the query's loss")).to_be_visible(timeout=CHECK_MS)


def test_a_grey_light_on_the_overview_leads_to_its_check(server: Server, watched: Watched) -> None:
    page = watched.open(server.url)
    lamps = page.get_by_role("list", name="Checks of this project's answers")
    expect(lamps.get_by_text("exactly 0")).to_be_visible()
    lamps.get_by_role("listitem").filter(has_text="Fidelity").get_by_role("button").click()
    expect(page).to_have_url(re.compile(r"/verify\?part=lds"))
    expect(page.get_by_text("trainings").first).to_be_visible()
