"""Text tracing in a browser: a prompt typed, tokens clicked and dragged, texts opened, links, hostile text as text."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pandas as pd
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from forwardinf_core.audits.tracing.methods import DEFAULT, trace_method
from forwardinf_core.audits.tracing.opening import load_tracing
from tests.browser.conftest import BUILD_S, Server, Watched, drawn, running_app
from tests.unit.language_cases import TEXTS, write_project

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PROMPT = "Paris is the capital of"
HOSTILE = "<img src=x onerror=\"document.title='caught'\"><script>document.title='caught'</script> Paris is the capital"
ODD = (HOSTILE, "باريس Paris is the capital", "Paris 🗼 is the capital", "Pa\x00ris is the capital of France", "x")
OPENING_MS = 1000 * BUILD_S
AGAIN_MS = 5_000  # after which a click that was lost is made again


@pytest.fixture(scope="module")
def app(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The app on a small trained model whose texts hold markup, right-to-left script, an emoji and a NUL."""
    folder = write_project(tmp_path_factory.mktemp("sentences"))
    texts = [*TEXTS * 3, *ODD]
    table = pd.DataFrame({"id": [f"t{n}" for n in range(len(texts))], "text": texts})
    table["source"] = ["<b>a</b>"] * (len(texts) - len(ODD)) + ["odd"] * len(ODD)
    table.to_parquet(folder / "train.parquet")
    load_tracing(folder).place.prepare(trace_method(DEFAULT))
    with running_app(tmp_path_factory.mktemp("home"), str(folder)) as started:
        page = browser.new_page()
        page.goto(started.url)
        expect(page.get_by_role("heading", level=1)).to_have_text("Text tracing", timeout=OPENING_MS)
        page.close()
        yield started


def options(page: Page, label: str) -> Locator:
    """Return what stands in the list with this label."""
    return page.get_by_role("listbox", name=label).get_by_role("option")


def token(page: Page, word: str) -> Locator:
    """Return the tokens of the question with this word."""
    return options(page, "Tokens of the prompt and its completion").filter(has_text=re.compile(rf"^{word}\d*"))


def ask(watched: Watched, app: Server) -> Page:
    """Type the prompt and wait for its texts."""
    page = watched.open(app.url)
    page.get_by_label("Prompt").fill(PROMPT)
    page.get_by_role("button", name="Trace").click()
    expect(options(page, "Training texts").first).to_be_visible(timeout=OPENING_MS)
    drawn(page)
    return page


def test_a_typed_prompt_is_completed_and_the_text_that_taught_it_stands_first(app: Server, watched: Watched) -> None:
    page = ask(watched, app)
    expect(page.get_by_text("The model completes France")).to_be_visible()
    expect(options(page, "Training texts").first).to_contain_text("Paris is the capital of France.")
    expect(page).to_have_url(re.compile(r"prompt=Paris"))


def test_a_clicked_and_a_dragged_token_change_what_is_asked(app: Server, watched: Watched) -> None:
    page = ask(watched, app)
    token(page, "capital").first.click()
    expect(page).to_have_url(re.compile(r"span=\d+(&|$)"))
    expect(page.get_by_text("now: capital")).to_be_visible()
    expect(token(page, "capital").first).to_have_attribute("aria-selected", "true")
    start, end = token(page, "the").first.bounding_box(), token(page, "of").first.bounding_box()
    assert start is not None
    assert end is not None
    page.mouse.move(start["x"] + 4, start["y"] + 8)
    page.mouse.down()
    page.mouse.move(end["x"] + 8, end["y"] + 8, steps=8)
    page.mouse.up()
    expect(page).to_have_url(re.compile(r"span=\d+%2C\d+"))
    expect(page.get_by_text("now: the capital of")).to_be_visible()


def test_every_ranking_lists_texts_and_an_opened_text_is_in_the_link(app: Server, watched: Watched) -> None:
    page = ask(watched, app)
    for name in ("Hurt", "Same words (BM25)", "Alike (hidden states)", "Verbatim", "Fused"):
        page.get_by_role("radio", name=name).click()
        expect(page.get_by_role("radio", name=name)).to_be_checked()
        drawn(page)
        expect(options(page, "Training texts").first).to_be_visible()
    row = options(page, "Training texts").nth(1)
    row.click()
    try:
        expect(row).to_have_attribute("aria-selected", "true", timeout=AGAIN_MS)
    except AssertionError:  # a click into a list that is drawn anew at that moment was lost once on a busy machine
        row.click()
    expect(row).to_have_attribute("aria-selected", "true")
    expect(page).to_have_url(re.compile(r"text=t\d+"))


@pytest.mark.parametrize("pause_ms", [0, 20, 60, 100])
def test_of_two_quick_clicks_both_count(app: Server, watched: Watched, pause_ms: int) -> None:
    page = ask(watched, app)
    ranking = page.get_by_role("radio", name="Same words (BM25)").element_handle()
    row = options(page, "Training texts").nth(1).element_handle()
    both = """([first, second, pause]) => {
        const root = second.getRootNode()
        const now = () => second.isConnected ? second : root.querySelectorAll("[role=option]")[1]  // drawn anew
        first.click()
        setTimeout(() => now().click(), pause)
    }"""
    page.evaluate(both, [ranking, row, pause_ms])
    expect(page).to_have_url(re.compile(r"text=t\d+"))
    expect(page).to_have_url(re.compile(r"ranking=bm25"))
    expect(page.get_by_role("radio", name="Same words (BM25)")).to_be_checked()


def test_a_link_shows_the_same_question_ranking_and_text_on_another_visit(app: Server, watched: Watched) -> None:
    page = ask(watched, app)
    page.get_by_role("radio", name="Same words (BM25)").click()
    expect(page).to_have_url(re.compile(r"ranking=bm25"))
    drawn(page)
    row = options(page, "Training texts").nth(2)
    row.click()
    expect(page).to_have_url(re.compile(r"text=t\d+"))
    drawn(page)
    link, chosen = page.url, row.inner_text()
    again = watched.page.context.new_page()
    again.goto(link)
    expect(options(again, "Training texts").nth(2)).to_have_attribute("aria-selected", "true", timeout=OPENING_MS)
    assert options(again, "Training texts").nth(2).inner_text() == chosen
    expect(again.get_by_role("radio", name="Same words (BM25)")).to_be_checked()
    again.close()


@pytest.mark.parametrize("watched", ["light", "dark"], indirect=True)
def test_markup_in_training_texts_is_shown_letter_by_letter(app: Server, watched: Watched) -> None:
    link = "prompt=Paris+is+the+capital&completion=of&ranking=embedding&column=source&value=odd"
    page = watched.open(app.url)
    page.goto(f"{app.url}/tracing?{link}&text=t{len(TEXTS) * 3}")  # an answer that is computed first
    shown = options(page, "Training texts")
    expect(shown.filter(has_text="document.title='caught'").first).to_be_visible(timeout=OPENING_MS)  # an excerpt
    expect(page.get_by_text("<script>document.title").first).to_be_visible()
    drawn(page)
    assert page.title() != "caught"
    assert page.locator("img[src=x]").count() == 0
    for text in ODD[1:3]:
        expect(shown.filter(has_text=text).first).to_be_visible()


def test_memorized_texts_are_scored_by_a_click_and_their_words_marked(app: Server, watched: Watched) -> None:
    page = watched.open(f"{app.url}/memorization")
    page.get_by_role("button", name="Score the texts").click()
    shown = options(page, "Training texts by memorization")
    expect(shown.first).to_be_visible(timeout=OPENING_MS)
    expect(shown.first.locator("mark").first).to_be_visible()
    shown.nth(1).click()
    expect(page).to_have_url(re.compile(r"row=t\d+"))
    expect(page.get_by_text("Estimate:").first).to_be_visible()
    assert page.title() != "caught"
