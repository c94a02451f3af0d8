"""An event of a page just left, sent before the browser has heard of the next page, leaves the next page as it is."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Page, WebSocketRoute, expect

from tests.browser.conftest import Server, Watched, drawn
from tests.browser.test_screens import tiles

pytestmark = [pytest.mark.browser, pytest.mark.slow]
ON_ITS_WAY_MS = 1_500  # until the server has drawn the next page


@dataclass
class Line:
    """The connection between browser and server; what the server says can be held back for a while."""

    is_held: bool = False
    kept: list[str | bytes] = field(default_factory=list)
    browser: WebSocketRoute | None = None

    def connect(self, route: WebSocketRoute) -> None:
        server = route.connect_to_server()
        self.browser = route
        route.on_message(server.send)
        server.on_message(self.said)

    def said(self, message: str | bytes) -> None:
        assert self.browser is not None
        if self.is_held:
            self.kept.append(message)
        else:
            self.browser.send(message)

    def release(self) -> None:
        assert self.browser is not None
        self.is_held = False
        for message in self.kept:
            self.browser.send(message)
        self.kept.clear()


@pytest.fixture
def line(watched: Watched) -> Line:
    held = Line()
    watched.page.route_web_socket(re.compile("/_stcore/stream"), held.connect)
    return held


def test_a_click_on_the_page_just_left_does_not_empty_the_next(server: Server, watched: Watched, line: Line) -> None:
    page = watched.open(f"{server.url}/attribution")
    tiles(page, "Test rows").first.click()
    button = page.get_by_role("button", name="Does it hold?")
    expect(button).to_be_visible()
    drawn(page)
    line.is_held = True
    button.click()
    page.wait_for_timeout(ON_ITS_WAY_MS)
    assert line.kept
    tiles(page, "Test rows").nth(2).click()
    page.wait_for_timeout(ON_ITS_WAY_MS)
    line.release()
    shows_verify(page)


def shows_verify(page: Page) -> None:
    """The page asked for is there and stays."""
    expect(page.get_by_role("heading", level=1, name="Verify")).to_be_visible()
    page.wait_for_timeout(ON_ITS_WAY_MS)
    drawn(page)
    expect(page.get_by_role("heading", level=1, name="Verify")).to_be_visible()
