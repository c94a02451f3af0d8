"""A real server on a free port and a real browser; every page also checks its console and where its requests go."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

from tests.conftest import absent

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = Path(os.environ.get("FORWARDINF_CHROMIUM", "/usr/bin/chromium"))
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
START_S, STOP_S = 60.0, 10.0
BUILD_S = 240.0  # the demo is trained on first start
PATIENCE_MS = 20_000
expect.set_options(timeout=PATIENCE_MS)  # a machine may do other work too
LOOKED_FOR_AND_NOT_THERE = ("/_stcore/health", "/_stcore/host-config")
"""On a deep link Streamlit first asks below the page's own path whether the server is there; the answer is 404."""


@dataclass
class Server:
    """A running app."""

    url: str
    process: subprocess.Popen[bytes]
    home: Path
    seen_first: list[str] = field(default_factory=list)  # what the very first visitor was shown


@contextmanager
def running_app(home: Path, project: str = "") -> Iterator[Server]:
    """Start the app on a free port of this machine, on a project or else the demo, and end it afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
    surroundings = {**os.environ, "FORWARDINF_HOME": str(home), "OMP_WAIT_POLICY": "PASSIVE"}
    surroundings.pop("FORWARDINF_PROJECT", None)
    if project:
        surroundings["FORWARDINF_PROJECT"] = project
    with (home / f"server-{port}.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=surroundings, stdout=log, stderr=log)
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/health"), START_S)
        yield Server(f"http://127.0.0.1:{port}", process, home)
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()  # a page that a failed test left open holds its connection
            process.wait()


def answers(url: str) -> bool:
    """Say whether a server answers at an address."""
    try:
        with urlopen(url, timeout=2) as reply:  # noqa: S310  # our own address
            return bool(reply.status == 200)
    except (URLError, OSError):
        return False


def wait_until(holds: Callable[[], bool], limit_s: float) -> None:
    """Wait until a condition of the server holds; there is nothing to listen to before it answers."""
    end = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end, "the app did not start in time"
        time.sleep(0.2)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        absent(f"no Chromium at {CHROMIUM}; set FORWARDINF_CHROMIUM")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def server(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The app on an empty home, visited while it still builds its demo, handed on when that is done."""
    with running_app(tmp_path_factory.mktemp("home")) as started:
        page = browser.new_page()
        page.goto(started.url)
        title = page.get_by_role("heading", level=1)
        expect(title).to_be_visible(timeout=PATIENCE_MS)
        started.seen_first.append(title.inner_text())
        expect(title).to_have_text("Handwritten digits", timeout=BUILD_S * 1000)
        started.seen_first.append(title.inner_text())
        page.close()
        yield started


@dataclass
class Watched:
    """A page and what it should not do."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    def open(self, url: str) -> Page:
        """Go to an address and wait until the screen has been drawn."""
        own = urlsplit(url).netloc

        def on_request(request: Request) -> None:
            parts = urlsplit(request.url)
            if parts.scheme in {"http", "https", "ws", "wss"} and parts.netloc != own:
                self.complaints.append(f"request to {request.url}")

        def on_console(message: ConsoleMessage) -> None:
            expected = urlsplit(message.location.get("url", "")).path.endswith(LOOKED_FOR_AND_NOT_THERE)
            if message.type == "error" and not expected:
                self.complaints.append(f"console: {message.text}")

        self.page.on("request", on_request)
        self.page.on("console", on_console)
        self.page.on("pageerror", lambda error: self.complaints.append(f"page: {error}"))
        self.page.goto(url)
        drawn(self.page)
        return self.page


def drawn(page: Page) -> None:
    """Wait until the server has finished drawing the screen."""
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]", timeout=PATIENCE_MS)


@pytest.fixture
def watched(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Watched]:
    """A page in light mode, or the mode a test asks for; fails the test for console errors and outside requests."""
    mode = getattr(request, "param", "light")
    context = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme=mode)
    page = Watched(context.new_page())
    yield page
    context.close()
    assert not page.complaints, page.complaints
