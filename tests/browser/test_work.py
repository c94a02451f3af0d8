"""Long work in a browser: cancel, retry, two tabs, a closed tab, a new server; silence when nothing runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from forwardinf_core.audits.attribution import AttributeOptions
from forwardinf_core.audits.methods import method_named
from forwardinf_core.jobs import run
from forwardinf_core.jobs.measure import MeasureOptions
from tests.browser.conftest import Server, Watched, drawn, running_app, wait_until

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ENDLESS = MeasureOptions(chunks=100_000, repeats=200)
WORKER_S = 120.0  # a worker starts, imports PyTorch, and begins
QUIET_MS = 5_000
OPEN_MS = 90_000  # a server that has just started opens its project, beside work on every core


@pytest.fixture
def project(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The project of the running app; its jobs end with the test."""
    monkeypatch.setenv("FORWARDINF_HOME", str(server.home))
    folder = server.home / "demos" / "digits"
    wait_until(lambda: not any(job.is_active for job in run.list_jobs(folder)), WORKER_S)
    yield folder
    for job in run.list_jobs(folder):
        if job.is_active:
            run.cancel(job.id)
    wait_until(lambda: not any(job.is_active for job in run.list_jobs(folder)), WORKER_S)


def card(page: Page, title: str) -> Locator:
    """Return the newest job of this title in the panel."""
    return page.get_by_role("region", name="Work").get_by_role("article").filter(has_text=title).first


def begin(project: Path, seed: int) -> int:
    """Hand the worker work without end, and wait until it is at it."""
    job = run.submit("measure", project, MeasureOptions(ENDLESS.chunks, ENDLESS.repeats, seed))
    wait_until(lambda: run.status(job).done > 0, WORKER_S)
    return job


def test_work_is_cancelled_and_taken_up_again_in_the_panel_and_both_tabs_say_so(
    server: Server, watched: Watched, project: Path
) -> None:
    page = watched.open(server.url)
    other = watched.page.context.new_page()
    other.goto(f"{server.url}/attribution")
    job = begin(project, 1)
    for tab in (page, other):
        tab.reload()
        expect(card(tab, "Measure")).to_have_attribute("data-state", "running", timeout=OPEN_MS)
        expect(card(tab, "Measure")).to_contain_text(re.compile(r"\d+%"))
    card(page, "Measure").get_by_role("button", name="Cancel").click()
    for tab in (page, other):
        tab.bring_to_front()
        region = tab.get_by_role("region", name="Work")
        region.get_by_text(re.compile("Finished")).click()
        expect(card(tab, "Measure")).to_have_attribute("data-state", "cancelled")
    assert run.status(job).state == "cancelled"
    card(other, "Measure").get_by_role("button", name="Retry").click()
    expect(card(other, "Measure")).to_have_attribute("data-state", "running")
    assert run.status(job).is_active
    other.close()


def test_work_goes_on_when_the_tab_is_closed_and_the_server_is_started_anew(
    server: Server, watched: Watched, project: Path
) -> None:
    job = begin(project, 2)
    with running_app(server.home) as first:
        tab = watched.page.context.new_page()
        tab.goto(first.url)
        expect(card(tab, "Measure")).to_have_attribute("data-state", "running", timeout=OPEN_MS)
        tab.close()
        before = run.status(job).done
    wait_until(lambda: run.status(job).done > before, WORKER_S)
    with running_app(server.home) as second:
        again = watched.page.context.new_page()
        again.goto(second.url)
        expect(card(again, "Measure")).to_have_attribute("data-state", "running", timeout=OPEN_MS)
        again.close()
    assert run.status(job).state == "running"


def test_a_finished_answer_shows_by_itself_and_its_job_leads_to_it(
    server: Server, watched: Watched, project: Path
) -> None:
    page = watched.open(f"{server.url}/attribution?query=test:{first_test_row(project)}&method=full-sgd")
    expect(page.get_by_role("listbox", name="Rows that helped").get_by_role("option").first).to_be_visible(
        timeout=1000 * WORKER_S
    )
    page.goto(server.url)
    drawn(page)
    page.get_by_role("region", name="Work").get_by_text(re.compile("Finished")).click()
    found = card(page, "Scoring the training rows")
    expect(found).to_have_attribute("data-state", "done")
    found.get_by_role("link", name="Open").click()
    expect(page).to_have_url(re.compile(r"/attribution\?.*method=full-sgd"))
    expect(page.get_by_role("listbox", name="Rows that helped").get_by_role("option").first).to_be_visible()


def test_an_answer_that_was_stopped_is_not_begun_again_by_a_reload_and_goes_on_when_asked(
    server: Server, watched: Watched, project: Path
) -> None:
    blocking = begin(project, 3)
    query = f"test:{first_test_row(project)}"
    page = watched.open(f"{server.url}/attribution?query={query}&method=full-adam")
    expect(page.get_by_text("Waiting for its turn").first).to_be_visible()
    page.get_by_role("button", name="Stop", exact=True).click()
    retry = page.get_by_role("main").get_by_role("button", name="Retry")
    expect(retry).to_be_visible()
    page.reload()
    drawn(page)
    expect(retry).to_be_visible()
    method = AttributeOptions((query,), method_named("full-adam"), None).method.name
    states = [job.state for job in run.list_jobs(project) if dict_name(job.options) == method]
    assert states == ["cancelled"]
    retry.click()
    expect(page.get_by_text("Waiting for its turn").first).to_be_visible()
    run.cancel(blocking)
    expect(page.get_by_role("listbox", name="Rows that helped").get_by_role("option").first).to_be_visible(
        timeout=1000 * WORKER_S
    )


def test_nothing_is_asked_of_the_server_while_nothing_runs(
    server: Server, watched: Watched, project: Path, browser: Browser
) -> None:
    for name in ("", "review", "leakage", "memorization", "verify?part=lds", "attribution"):
        page = watched.open(f"{server.url}/{name}")
        drawn(page)
        page.wait_for_timeout(2_000)  # the panel has looked once, and the cost has been measured
        asked: list[str] = []
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        sent: list[str] = []
        page.on("websocket", lambda socket, sent=sent: sent.append(socket.url))
        runs = page.evaluate(COUNT_CHANGES, QUIET_MS)
        assert not asked, (name, asked)
        assert not sent, name
        assert runs == 0, name


COUNT_CHANGES = """async (ms) => {
  let changes = 0
  const app = document.querySelector('[data-testid=stApp]')
  const watch = new MutationObserver(() => (changes += 1))
  watch.observe(app, { attributes: true, attributeFilter: ['data-test-script-state'] })
  await new Promise((resolve) => setTimeout(resolve, ms))
  watch.disconnect()
  return changes
}"""


def first_test_row(project: Path) -> str:
    from forwardinf_core.projects.load import open_project

    return str(open_project(project).test_rows(None).ids[0])


def dict_name(options: object) -> str:
    method = options.get("method") if isinstance(options, dict) else None
    return str(method.get("name")) if isinstance(method, dict) else ""
