"""The verify screen and the traffic lights: what was checked, what was not, and what both mean."""

from __future__ import annotations

from tests.pages.conftest import Screens, linked
from tests.pages.fake_services import FakeAudit
from tests.pages.test_overview import written

PAGE = "verify.py"


def test_the_controls_are_shown_with_their_thresholds(screens: Screens, audit: FakeAudit) -> None:
    app = screens(audit, PAGE, part="canaries")
    assert not app.exception
    assert "Controls" in written(app)
    assert "Green: exactly 0" in written(app)


def test_a_part_that_does_not_exist_opens_the_first(screens: Screens, audit: FakeAudit) -> None:
    app = screens(audit, PAGE, part="nonsense")
    assert not app.exception
    assert "What must not matter" in written(app)
    assert linked(app, "part") == "nonsense"


def test_the_overview_shows_the_lights(screens: Screens, audit: FakeAudit) -> None:
    app = screens(audit)
    assert "Can the answers be trusted?" in written(app)
