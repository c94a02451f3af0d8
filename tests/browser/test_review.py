"""The review in a real browser: fast keys, reloads, two tabs, undo, the grid; nothing recorded is ever lost."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from forwardinf_core.store import decisions as kept
from forwardinf_core.store.decisions import Decision
from forwardinf_core.store.places import ProjectFolder
from tests.browser.conftest import Server, Watched, drawn, wait_until

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SEARCH_MS = 180_000
FAST_MS = 20
CARD = ".deck[data-state=card]"


def records(server: Server) -> list[Decision]:
    """Return what the database holds."""
    return kept.read(ProjectFolder(Path(server.home) / "demos" / "digits"), "mislabels")


def opened(watched: Watched, server: Server, link: str = "?rows=all") -> Page:
    """Open the review on the demo, searching it first where that has not been done."""
    page = watched.open(f"{server.url}/review{link}")
    expect(page.get_by_role("heading", name="Review", level=1)).to_be_visible()
    search = page.get_by_role("button", name="Find suspects")
    expect(search.or_(page.locator(".deck")).first).to_be_visible()
    if search.count():
        search.click()
    expect(page.locator(".deck:not([data-state=loading])")).to_be_visible(timeout=SEARCH_MS)
    drawn(page)
    return page


def total(page: Page) -> int:
    return int(page.locator(".deck .where").inner_text().split(" of ")[-1].replace(",", ""))


def saved(page: Page) -> None:
    expect(page.locator(".deck .saved[data-state=saved]")).to_be_visible(timeout=30_000)


def press(page: Page, keys: str, gap_ms: int = FAST_MS) -> None:
    for key in keys:
        page.keyboard.press(key)
        page.wait_for_timeout(gap_ms)


def test_twenty_keys_at_twenty_milliseconds_are_all_kept_and_survive_a_reload(server: Server, watched: Watched) -> None:
    page = opened(watched, server)
    before, left = len(records(server)), total(page)
    press(page, "kdukdukdukdukdukdukd")
    saved(page)
    made = records(server)[before:]
    assert [one.action for one in made] == (["keep", "drop", "unsure"] * 7)[:20]
    assert len({one.row_id for one in made}) == 20
    # The link follows the deck a quarter of a second behind, and the row it names is shown even if it is decided.
    expect(page).not_to_have_url(re.compile(f"row={re.escape(made[-1].row_id)}$"))
    page.reload()
    expect(page.locator(CARD)).to_be_visible()
    assert total(page) == left - 20
    assert len(records(server)) == before + 20


def test_keys_pressed_just_before_a_reload_are_sent_by_the_next_visit(server: Server, watched: Watched) -> None:
    page = opened(watched, server)
    before = len(records(server))
    press(page, "kkkkk")
    page.reload()  # at once: messages on their way may be lost with the page
    expect(page.locator(".deck")).to_be_visible()
    wait_until(lambda: len(records(server)) >= before + 5, 20)
    saved(page)
    assert len(records(server)) == before + 5


def test_undo_and_redo_reach_back_beyond_a_reload(server: Server, watched: Watched) -> None:
    page = opened(watched, server)
    press(page, "d")
    saved(page)
    row = records(server)[-1].row_id
    page.reload()
    expect(page.locator(CARD)).to_be_visible()
    press(page, "z")
    wait_until(lambda: records(server)[-1].action == "undo", 20)
    press(page, "y")
    wait_until(lambda: records(server)[-1].action == "redo", 20)
    press(page, "z")
    expect(page.locator(".flash")).to_contain_text(row)  # decided rows are not in the queue of open ones
    saved(page)
    assert [one.row_id for one in records(server)[-4:]] == [row] * 4


def test_two_tabs_decide_side_by_side_and_nothing_is_lost(server: Server, watched: Watched) -> None:
    one = opened(watched, server)
    other = watched.page.context.new_page()
    other.goto(f"{server.url}/review?rows=all")
    expect(other.locator(CARD)).to_be_visible()
    before = len(records(server))
    for _ in range(5):
        one.bring_to_front()
        press(one, "k")
        other.bring_to_front()
        press(other, "u")
    saved(one)
    saved(other)
    assert len(records(server)) == before + 10
    other.close()


def test_digits_choose_among_the_likely_classes_and_a_comment_goes_with_the_decision(
    server: Server, watched: Watched
) -> None:
    page = opened(watched, server)
    name = page.locator(".choice .name").nth(1).inner_text()
    own = page.locator(".choice.own .name").inner_text()
    press(page, "n")
    page.keyboard.type("k is typed, not pressed")
    page.keyboard.press("Enter")
    press(page, "2")
    saved(page)
    last = records(server)[-1]
    assert last.comment == "k is typed, not pressed"
    assert (last.action, last.label) == (("keep", None) if name == own else ("relabel", int(name)))


def test_the_grid_decides_the_chosen_rows_as_one_step(server: Server, watched: Watched) -> None:
    page = opened(watched, server, "?view=grid&rows=all")
    cells = page.get_by_role("listbox", name="Rows").get_by_role("option")
    cells.nth(1).click()
    cells.nth(4).click(modifiers=["Shift"])
    expect(page.locator(".picked")).to_have_text("4 rows chosen")
    press(page, "d")
    saved(page)
    made = records(server)[-4:]
    assert [one.action for one in made] == ["drop"] * 4
    assert len({one.step for one in made}) == 1
    press(page, "z")
    wait_until(lambda: records(server)[-1].action == "undo", 20)
    assert records(server)[-1].undoes == made[0].step


@pytest.mark.parametrize("watched", ["light", "dark"], indirect=True)
def test_buttons_work_with_the_mouse_in_both_colour_modes(server: Server, watched: Watched) -> None:
    page = opened(watched, server)
    before: Callable[[], int] = lambda: len(records(server))  # noqa: E731
    count = before()
    page.locator(".deck [data-act=unsure]").click()
    saved(page)
    assert before() == count + 1
    expect(page.locator(".film .mark.unsure").first).to_be_visible()
    page.locator(".deck [data-act=undo]").click()
    saved(page)
    assert records(server)[-1].action == "undo"
