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
from forwardinf_core.ui.serving import (
    SecurityHeaders,
    answer,
    hashes_of_inline_scripts,
    health,
    opening_progress,
    thumbnail,
    work,
)
from tests.pages.fake_services import FakeAudit, open_fake


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> TestClient:
    opened = opening.Opening("demo:digits", open_fake(FakeAudit()))
    opened.start()
    opened.wait(5)
    monkeypatch.setattr(opening, "_current", opened)
    routes = [
        Route("/thumbs/{token}/{split}/{key:path}", thumbnail),
        Route("/answers/{token}", answer),
        Route("/work/{token}", work),
        Route("/work/{token}/{job:int}/{action}", work, methods=["POST"]),
        Route(opening.ADDRESS, opening_progress),
        Route("/health", health),
    ]
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


def test_an_answer_is_served_early_and_a_question_without_one_is_a_calm_404(client: TestClient) -> None:
    address = f"/answers/{thumbs.token_of('demo:digits')}"
    found = client.get(address, params={"query": "test:test-0004"})
    assert found.headers["cache-control"] == "no-store"
    assert [side["tone"] for side in found.json()["board"]["sides"]] == ["helped", "hurt"]
    assert found.json()["card"]["asked"] == found.json()["board"]["asked"]
    for wrong in ({}, {"query": "test:nowhere"}, {"query": "test:test-0004", "target": "99"}):
        assert client.get(address, params=wrong).status_code == 404


def test_the_queue_is_served_and_a_job_of_others_is_not_touched(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORWARDINF_HOME", str(tmp_path))
    address = f"/work/{thumbs.token_of('demo:digits')}"
    assert client.get(address).json() == []
    assert "There is no job 7" in client.post(f"{address}/7/cancel").json()["error"]
    assert client.get(f"{address}/7/cancel").status_code == 405


def test_a_guessed_token_opens_nothing(client: TestClient) -> None:
    thumbs.token_of("demo:digits")
    assert client.get("/answers/guess", params={"query": "test:test-0004"}).status_code == 404
    assert client.get("/work/guess").status_code == 404
    assert client.post("/work/guess/1/cancel").status_code == 404
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


def test_how_far_the_opening_is_can_be_asked_without_drawing_a_screen(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = opening.Opening("demo:digits", open_fake(FakeAudit()))
    opened.report(0.4, "Training the model")
    monkeypatch.setattr(opening, "_current", opened)
    (line,) = client.get(opening.ADDRESS).json()
    assert line == {"id": opened.name, "is_active": True, "share": 0.4, "note": "Training the model"}


def test_the_project_is_named_by_argument_then_variable_then_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(opening.PROJECT_VARIABLE, raising=False)
    monkeypatch.setattr("sys.argv", ["/somewhere/app.py"])
    assert opening.project_wanted() == "demo:digits"
    monkeypatch.setenv(opening.PROJECT_VARIABLE, "/from/variable")
    assert opening.project_wanted() == "/from/variable"
    monkeypatch.setattr("sys.argv", ["/somewhere/app.py", "/from/argument"])
    assert opening.project_wanted() == "/from/argument"
