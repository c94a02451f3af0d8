"""What the web server answers besides the screens."""

from __future__ import annotations

from pathlib import Path

import pytest
import streamlit as st
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route
from starlette.testclient import TestClient

from forwardinf_core.ui import opening, thumbs
from forwardinf_core.ui.serving import SecurityHeaders, hashes_of_inline_scripts, health, thumbnail
from tests.pages.fake_services import FakeAudit, open_fake


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> TestClient:
    opened = opening.Opening("demo:digits", open_fake(FakeAudit()))
    opened.start()
    opened.wait(5)
    monkeypatch.setattr(opening, "_current", opened)
    routes = [Route("/thumbs/{token}/{split}/{key:path}", thumbnail), Route("/health", health)]
    return TestClient(Starlette(routes=routes, middleware=[Middleware(SecurityHeaders)]))


def test_a_thumbnail_is_kept_for_ever(client: TestClient) -> None:
    reply = client.get(thumbs.address("demo:digits", "train", 3))
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "image/png"
    assert "immutable" in reply.headers["cache-control"]


def test_a_query_is_shown_as_the_model_sees_it(client: TestClient) -> None:
    assert client.get(thumbs.address("demo:digits", thumbs.SHOWN, "test:test-0004")).status_code == 200


@pytest.mark.parametrize(
    ("split", "key"),
    [
        ("train", "-1"),
        ("train", "99999"),
        ("train", "x"),
        ("train", "../../etc/passwd"),
        ("secret", "0"),
        (thumbs.SHOWN, "test:nowhere"),
        (thumbs.SHOWN, "upload:../x"),
    ],
)
def test_an_address_without_a_picture_is_a_calm_404(client: TestClient, split: str, key: str) -> None:
    reply = client.get(thumbs.address("demo:digits", split, key))
    assert reply.status_code == 404
    assert reply.text == "There is no picture at this address."


def test_a_guessed_token_opens_nothing(client: TestClient) -> None:
    thumbs.token_of("demo:digits")
    assert client.get("/thumbs/guess/train/0").status_code == 404
    assert client.get(thumbs.address("demo:other", "train", 0)).status_code == 404


def test_every_answer_carries_the_security_headers(client: TestClient) -> None:
    headers = client.get("/health").headers
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "'unsafe-inline'" not in policy.split("script-src")[1].split(";")[0]
    assert headers["x-content-type-options"] == "nosniff"


def test_the_policy_allows_the_front_pages_own_inline_script_alone() -> None:
    page = (Path(st.__file__).parent / "static" / "index.html").read_text()
    assert len(hashes_of_inline_scripts(page)) == page.count("<script>")


def test_health_says_whether_the_project_is_open(client: TestClient) -> None:
    assert client.get("/health").json() == {"status": "ok", "project": "ready"}


def test_the_project_is_named_by_argument_then_variable_then_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(opening.PROJECT_VARIABLE, raising=False)
    monkeypatch.setattr("sys.argv", ["/somewhere/app.py"])
    assert opening.project_wanted() == "demo:digits"
    monkeypatch.setenv(opening.PROJECT_VARIABLE, "/from/variable")
    assert opening.project_wanted() == "/from/variable"
    monkeypatch.setattr("sys.argv", ["/somewhere/app.py", "/from/argument"])
    assert opening.project_wanted() == "/from/argument"
