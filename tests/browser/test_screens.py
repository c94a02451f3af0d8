"""What only a browser can show: deep links, pictures, keys, uploads, both colour modes, nothing sent elsewhere."""

from __future__ import annotations

import io
import re

import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Server, Watched, drawn, running_app

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def tiles(page: Page, label: str) -> Locator:
    """Return the tiles of the gallery with this label."""
    return page.get_by_role("listbox", name=label).get_by_role("option")


def chosen(gallery: Locator) -> Locator:
    return gallery.and_(gallery.page.locator("[aria-selected=true]"))


def open_first_mistake(watched: Watched, server: Server) -> Page:
    """Open Attribution and choose the first test row, the most confident mistake."""
    page = watched.open(f"{server.url}/attribution")
    tiles(page, "Test rows").first.click()
    expect(tiles(page, "Rows that hurt").first).to_be_visible()
    drawn(page)
    return page


def test_the_first_visitor_sees_the_preparation_and_then_the_overview_by_itself(server: Server) -> None:
    assert server.seen_first == ["Preparing the digits demo", "Handwritten digits"]


def test_a_deep_link_is_the_first_request_to_a_fresh_server(server: Server, watched: Watched) -> None:
    page = open_first_mistake(watched, server)
    link = page.evaluate("location.pathname + location.search")
    with running_app(server.home) as fresh:
        again = watched.page.context.new_page()
        again.goto(fresh.url + link)
        expect(tiles(again, "Rows that helped").first).to_be_visible(timeout=60_000)
        expect(again.get_by_role("link", name="Overview")).to_be_visible()
        expect(again.get_by_text("Page not found")).to_have_count(0)
        again.close()


def test_a_click_on_a_confusion_leads_to_its_rows(server: Server, watched: Watched) -> None:
    page = watched.open(server.url)
    tiles(page, "Confused classes").first.click()
    expect(tiles(page, "Rows that hurt").first).to_be_visible()
    expect(page).to_have_url(re.compile(r"/attribution\?.*query=test"))


def test_a_click_on_a_training_row_opens_it(server: Server, watched: Watched) -> None:
    page = open_first_mistake(watched, server)
    tile = tiles(page, "Rows that helped").nth(2)
    tile.click()
    expect(tile).to_have_attribute("aria-selected", "true")
    expect(page.locator(".st-key-opened-row")).to_contain_text(tile.get_attribute("data-id") or "?")
    expect(page).to_have_url(re.compile("row="))
    page.go_back()
    expect(tile).to_have_attribute("aria-selected", "false")


def test_arrow_keys_home_and_end_walk_through_a_gallery(server: Server, watched: Watched) -> None:
    page = open_first_mistake(watched, server)
    rows = tiles(page, "Rows that helped")
    last = rows.count() - 1
    rows.first.click()
    tops = [box["y"] for tile in rows.all() if (box := tile.bounding_box())]
    columns = sum(top == tops[0] for top in tops)
    for key, place in (
        ("ArrowRight", 1),
        ("ArrowDown", 1 + columns),
        ("ArrowLeft", columns),
        ("ArrowUp", 0),
        ("End", last),
        ("Home", 0),
    ):
        page.keyboard.press(key)
        expect(rows.nth(place)).to_have_attribute("aria-selected", "true")
        expect(rows.nth(place)).to_be_focused()
    expect(page.locator(".st-key-opened-row")).to_contain_text(rows.first.get_attribute("data-id") or "?")


def test_in_the_test_rows_arrows_move_and_enter_chooses(server: Server, watched: Watched) -> None:
    page = watched.open(f"{server.url}/attribution")
    rows = tiles(page, "Test rows")
    rows.first.focus()
    page.keyboard.press("ArrowRight")
    expect(rows.nth(1)).to_be_focused()
    assert "query=" not in page.evaluate("location.search")
    page.keyboard.press("Enter")
    expect(tiles(page, "Rows that hurt").first).to_be_visible()


def test_a_click_shows_the_rows_before_the_server_has_drawn_and_they_stay(server: Server, watched: Watched) -> None:
    page = open_first_mistake(watched, server)
    tile = tiles(page, "Test rows").nth(3)
    with page.expect_response(re.compile("/answers/")) as reply:
        tile.click()
    early = reply.value.json()["board"]["sides"][0]["tiles"][0]["id"]
    first = tiles(page, "Rows that helped").first
    expect(first).to_have_attribute("data-id", early)
    first.evaluate("tile => (tile.dataset.mark = 'drawn early')")
    name = (tile.get_attribute("data-id") or "?").removeprefix("test:")
    expect(page).to_have_url(re.compile(re.escape(name)))
    drawn(page)
    expect(first).to_have_attribute("data-mark", "drawn early")
    page.go_back()
    expect(chosen(tiles(page, "Test rows"))).to_have_attribute(
        "data-id", tiles(page, "Test rows").first.get_attribute("data-id") or "?"
    )
    expect(first).not_to_have_attribute("data-id", early)


def test_dragging_over_the_histogram_shows_the_rows_of_the_range(server: Server, watched: Watched) -> None:
    page = open_first_mistake(watched, server)
    chart = page.locator(".spread .plot")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.95 * box["width"], box["y"] + 50, steps=5)
    page.mouse.up()
    expect(tiles(page, "Rows in the range").first).to_be_visible()
    expect(chart.locator(".brush")).to_be_visible()
    page.locator(".spread").focus()
    page.keyboard.press("Escape")
    expect(tiles(page, "Rows in the range")).to_have_count(0)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    expect(chart.locator(".column:not(.out)")).to_have_count(2)
    tiles(page, "Test rows").nth(3).click()
    expect(chart.locator(".brush")).to_be_hidden()


def test_an_uploaded_image_is_explained(server: Server, watched: Watched) -> None:
    page = watched.open(f"{server.url}/attribution")
    page.get_by_text("Your image", exact=True).click()
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((40, 30)).save(buffer, "PNG")
    page.locator("input[type=file]").set_input_files(
        {"name": "mine.png", "mimeType": "image/png", "buffer": buffer.getvalue()}
    )
    expect(tiles(page, "Rows that helped").first).to_be_visible()
    expect(page.get_by_text("This image has no label.")).to_be_visible()


def test_what_is_no_image_is_refused_calmly(server: Server, watched: Watched) -> None:
    page = watched.open(f"{server.url}/attribution")
    page.get_by_text("Your image", exact=True).click()
    page.locator("input[type=file]").set_input_files(
        {"name": "note.png", "mimeType": "image/png", "buffer": b"this is text"}
    )
    expect(page.get_by_test_id("stAlert")).to_be_visible()
    expect(page.get_by_text("Traceback")).to_have_count(0)


@pytest.mark.parametrize("watched", ["light", "dark"], indirect=True)
def test_both_colour_modes_are_drawn_with_our_fonts(
    server: Server, watched: Watched, request: pytest.FixtureRequest
) -> None:
    page = open_first_mistake(watched, server)
    ground = page.locator("[data-testid=stApp]").evaluate("element => getComputedStyle(element).backgroundColor")
    dark = request.node.callspec.params["watched"] == "dark"
    assert ground == ("rgb(14, 16, 24)" if dark else "rgb(255, 255, 255)")
    assert page.evaluate("document.fonts.check('16px Inter')")


def test_pictures_are_kept_for_ever_and_unknown_addresses_are_a_calm_404(server: Server, watched: Watched) -> None:
    page = open_first_mistake(watched, server)
    source = tiles(page, "Test rows").first.locator("img").get_attribute("src")
    found = page.request.get(server.url + (source or ""))
    assert "immutable" in found.headers["cache-control"]
    assert "frame-ancestors" in found.headers["content-security-policy"]
    for wrong in ("/thumbs/guess/train/0", f"{(source or '').rsplit('/', 1)[0]}/999999999"):
        assert page.request.get(server.url + wrong).status == 404
