"""Generation tracing in a real browser: a picture painted, traced, walked through by keys, compared, uploaded."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.conftest import Server, Watched, drawn, running_app
from tests.pages.small_painter import make_painter

pytestmark = [pytest.mark.browser, pytest.mark.slow]

WORK_MS = 120_000  # a worker starts, loads its libraries and does the work
OPENING_MS = 180_000  # libraries are loaded, by a machine that may do other work too


@pytest.fixture(scope="module")
def painter(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The app on a tiny diffusion project."""
    folder = make_painter(tmp_path_factory.mktemp("painter"))
    with running_app(tmp_path_factory.mktemp("home"), str(folder)) as started:
        page = browser.new_page()
        page.goto(started.url)
        expect(page.get_by_role("heading", level=1)).to_have_text("Sides", timeout=OPENING_MS)
        page.close()
        yield started


def tiles(page: Page, label: str) -> Locator:
    return page.get_by_role("listbox", name=label).get_by_role("option")


def traced(watched: Watched, painter: Server, **link: str) -> Page:
    """Open a picture and have it traced, where it has not been."""
    said = {"prompt": "left", "seed": "1", "steps": "4", "method": "sgd", **link}
    page = watched.open(f"{painter.url}/generation?" + "&".join(f"{name}={value}" for name, value in said.items()))
    helped, button = tiles(page, "Images that helped").first, page.get_by_role("button", name="Find them")
    expect(helped.or_(button)).to_be_visible(timeout=WORK_MS)
    if button.is_visible():
        button.click()
    expect(helped).to_be_visible(timeout=WORK_MS)
    drawn(page)
    return page


def test_a_class_on_the_overview_is_painted_and_traced_with_progress_in_place(
    painter: Server, watched: Watched
) -> None:
    page = watched.open(painter.url)
    listed = page.get_by_test_id("stSidebarNavItems")
    expect(listed.get_by_role("link", name="Generation tracing")).to_be_visible()
    expect(listed.get_by_role("link", name="Attribution")).to_have_count(0)
    tiles(page, "Classes").nth(1).click()
    expect(page.get_by_text("Painted as right: seed 0, 50 steps.")).to_be_visible(timeout=WORK_MS)
    page.get_by_role("button", name="Find them").wait_for()
    expect(page).to_have_url(re.compile("prompt=right&seed=0"))
    shown = page.get_by_role("img", name="Painted as right").first
    assert shown.evaluate("picture => getComputedStyle(picture).imageRendering") == "pixelated"


def test_arrow_keys_walk_through_the_images_that_helped_and_open_each(painter: Server, watched: Watched) -> None:
    page = traced(watched, painter)
    helped = tiles(page, "Images that helped")
    helped.first.click()
    page.keyboard.press("ArrowRight")
    expect(helped.nth(1)).to_have_attribute("aria-selected", "true")
    expect(page.locator(".st-key-gen-row")).to_contain_text(helped.nth(1).get_attribute("data-id") or "?")
    expect(page).to_have_url(re.compile("row="))
    expect(
        page.locator(".st-key-gen-row").get_by_test_id("stVegaLiteChart").locator("canvas, svg").first
    ).to_be_visible()


def test_two_pictures_are_compared_side_by_side(painter: Server, watched: Watched) -> None:
    traced(watched, painter, seed="2")
    page = traced(watched, painter)
    page.get_by_role("button", name="Compare").click()
    page.get_by_text("Setting", exact=True).wait_for()
    page.get_by_role("combobox", name=re.compile("Setting")).click()
    page.get_by_role("option", name="Seed").click()
    drawn(page)
    page.locator(".st-key-gen-compare-do button").click()
    expect(page.get_by_text("Seed 1 beside 2.")).to_be_visible()
    expect(page.get_by_text("Rank agreement over all images")).to_be_visible()
    expect(page).to_have_url(re.compile("differ=seed&other=2"))


def test_an_uploaded_picture_is_asked_about_and_what_is_none_is_refused(painter: Server, watched: Watched) -> None:
    page = watched.open(f"{painter.url}/generation")
    page.get_by_text("Your picture", exact=True).click()
    upload = page.locator("input[type=file]")
    upload.set_input_files({"name": "note.png", "mimeType": "image/png", "buffer": b"this is text"})
    expect(page.get_by_test_id("stAlert")).to_be_visible()
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((40, 30)).save(buffer, "PNG")
    page.locator("input[type=file]").set_input_files(
        {"name": "mine.png", "mimeType": "image/png", "buffer": buffer.getvalue()}
    )
    expect(page.get_by_text("Your picture, as the model sees it, asked about as left.")).to_be_visible()
    expect(page.get_by_role("button", name="Find them")).to_be_visible()


@pytest.mark.parametrize("watched", ["light", "dark"], indirect=True)
def test_both_colour_modes_are_drawn(painter: Server, watched: Watched, request: pytest.FixtureRequest) -> None:
    page = traced(watched, painter)
    ground = page.locator("[data-testid=stApp]").evaluate("element => getComputedStyle(element).backgroundColor")
    dark = request.node.callspec.params["watched"] == "dark"
    assert ground == ("rgb(14, 16, 24)" if dark else "rgb(255, 255, 255)")
