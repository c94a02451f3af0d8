"""The screens in process, with stand-in services: ``screens`` opens the shell, ``audit`` is what it shows."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from forwardinf_core.audits import costs
from forwardinf_core.projects.forecast import Forecast
from forwardinf_core.ui import opening
from forwardinf_core.verification import lights
from tests.pages.fake_services import FakeAudit, open_fake
from tests.pages.fake_verification import fake_lights

ROOT = Path(__file__).resolve().parents[2]
SHELL = ROOT / "forwardinf_core" / "ui" / "shell.py"
PAGES = ROOT / "pages"

RATES = Forecast(1.0, 2.0, 10**8, 10**6, 10**6, 10**7)  # of a dry run
Screens = Callable[..., AppTest]


class Measured:
    """A dry run that has been made."""

    def measured(self) -> Forecast:
        return RATES


@pytest.fixture(autouse=True)
def main_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the main module back: Streamlit puts the shell there, and processes of a later test's pool would run it."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


@pytest.fixture
def audit() -> FakeAudit:
    return FakeAudit()


@pytest.fixture
def screens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Screens:
    """Return a function that opens a page on an audit, with the parameters of a link. The job queue is empty."""
    monkeypatch.setenv("FORWARDINF_HOME", str(tmp_path))

    monkeypatch.setattr(lights, "control_lights", lambda _audit: fake_lights())
    monkeypatch.setattr(lights, "lights", lambda _audit: fake_lights())
    monkeypatch.setattr(costs, "dry_run_of", lambda _audit: Measured())
    monkeypatch.setattr(costs, "of_method", lambda _audit, _name: None)
    monkeypatch.setattr(lights, "stamp", lambda _audit: "")

    def show(audit: FakeAudit, page: str = "", **link: str) -> AppTest:
        opened = opening.Opening("demo:digits", open_fake(audit))
        opened.start()
        opened.wait(5)
        monkeypatch.setattr(opening, "_current", opened)
        app = AppTest.from_file(str(SHELL), default_timeout=20)
        if page:
            app.run()
            app.switch_page(str(PAGES / page))
        for name, value in link.items():
            app.query_params[name] = value
        return app.run()

    return show


def linked(app: AppTest, name: str) -> str:
    """Return what the link of a screen says under a name, "" where it says nothing."""
    value = app.query_params.get(name, "")
    return value if isinstance(value, str) else "".join(value)


def given(app: AppTest, name: str) -> list[dict[str, object]]:
    """Return what the components of a kind ("card", "board", "watch", …) were given, in the order of the screen."""
    found = [each.proto for each in app.get("bidi_component")]
    return [json.loads(proto.json) for proto in found if proto.component_name == f"forwardinf_{name}"]


def texts_of(value: object) -> str:
    """Return all text in what a component was given."""
    if isinstance(value, dict):
        return " ".join(texts_of(each) for each in value.values())
    if isinstance(value, list):
        return "".join(texts_of(each) if isinstance(each, dict) else f" {texts_of(each)}" for each in value)
    return value if isinstance(value, str) else ""
