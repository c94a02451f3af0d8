"""The screens in process, with stand-in services: ``screens`` opens the shell, ``audit`` is what it shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from forwardinf_core.ui import opening
from forwardinf_core.ui.attribution import waiting
from forwardinf_core.verification import lights
from tests.pages.fake_services import FakeAudit, open_fake
from tests.pages.fake_verification import fake_lights

ROOT = Path(__file__).resolve().parents[2]
SHELL = ROOT / "forwardinf_core" / "ui" / "shell.py"
PAGES = ROOT / "pages"

Screens = Callable[..., AppTest]


@pytest.fixture
def audit() -> FakeAudit:
    return FakeAudit()


@pytest.fixture
def screens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Screens]:
    """Return a function that opens a page on an audit, with the parameters of a link. The job queue is empty."""
    monkeypatch.setenv("FORWARDINF_HOME", str(tmp_path))

    monkeypatch.setattr(lights, "control_lights", lambda _audit: fake_lights())
    monkeypatch.setattr(lights, "lights", lambda _audit: fake_lights())

    def show(audit: FakeAudit, page: str = "", **link: str) -> AppTest:
        opened = opening.Opening("demo:digits", open_fake(audit))
        opened.start()
        opened.wait(5)
        monkeypatch.setattr(opening, "_current", opened)
        monkeypatch.setattr(waiting, "SETTLE_S", 0.0)
        app = AppTest.from_file(str(SHELL), default_timeout=20)
        if page:
            app.run()
            app.switch_page(str(PAGES / page))
        for name, value in link.items():
            app.query_params[name] = value
        return app.run()

    st.cache_resource.clear()
    yield show
    st.cache_resource.clear()


def linked(app: AppTest, name: str) -> str:
    """Return what the link of a screen says under a name, "" where it says nothing."""
    value = app.query_params.get(name, "")
    return value if isinstance(value, str) else "".join(value)
