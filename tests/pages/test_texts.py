"""The screens on texts: cards of text in place of pictures, a typed text as query, nothing of it ever markup."""

from __future__ import annotations

from forwardinf_core.ui import state, texts
from tests.pages.conftest import Screens, given, linked
from tests.pages.fake_texts import LONG, FakeTextAudit
from tests.pages.test_overview import marked_up

PAGE = "attribution.py"


def test_test_rows_are_cards_of_text(screens: Screens) -> None:
    app = screens(FakeTextAudit(), PAGE)
    assert not app.exception
    tiles = given(app, "gallery")[0]["tiles"]
    assert isinstance(tiles, list)
    assert all(tile["text"] for tile in tiles)
    assert all(len(tile["text"]) <= texts.ON_A_TILE for tile in tiles)


def test_query_and_opened_row_show_their_text_and_no_markup(screens: Screens) -> None:
    app = screens(FakeTextAudit(), PAGE, query="test:test-0006", row="train-0006")
    assert not app.exception
    card = given(app, "card")[0]
    assert card["text"] == {"read": "test row 6 <script>alert(1)</script>", "rest": "", "note": ""}
    assert given(app, "passage")[0]["read"] == "train row 6 <script>alert(1)</script>"
    assert "<script>" not in marked_up(app)


def test_a_long_text_says_what_the_model_reads_of_it() -> None:
    shown = texts.shown(LONG + "\x00", 100)
    assert len(shown.read) == 100
    assert len(shown.read + shown.rest) == texts.SHOWN
    assert shown.note == "The model reads the first 100 characters of 50,001. The first 20,000 are shown."
    assert texts.shown("a\x00b", 3).read == "a\u2400b"


def test_an_empty_text_says_so(screens: Screens) -> None:
    audit = FakeTextAudit()
    assert texts.on_tile(audit, "test", 2) == texts.EMPTY  # type: ignore[arg-type]  # a stand-in
    app = screens(audit, PAGE, query="test:test-0002")
    assert not app.exception


def test_a_typed_text_is_explained_and_an_empty_one_refused_calmly(screens: Screens) -> None:
    app = screens(FakeTextAudit(), PAGE)
    app.session_state[state.PICK_SOURCE] = "Your text"
    app.run()
    app.button(key=state.PICK_EXPLAIN).click().run()
    assert "Type or paste" in app.warning[0].value
    app.text_area(key=state.PICK_TEXT).set_value("<b>Who</b> was Galileo?").run()
    app.button(key=state.PICK_EXPLAIN).click().run()
    assert linked(app, "query") == "upload:u0"
    card = given(app, "card")[0]
    assert card["text"]["read"] == "<b>Who</b> was Galileo?"  # type: ignore[index]
    assert card["alt"] == "your text"


def test_the_overview_shows_mistakes_as_texts(screens: Screens) -> None:
    app = screens(FakeTextAudit())
    assert not app.exception
    tiles = given(app, "gallery")[0]["tiles"]
    assert isinstance(tiles, list)
    assert all(tile["text"] for tile in tiles)
