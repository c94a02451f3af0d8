"""What the web server answers besides the screens: thumbnails, health, and headers that keep the page to itself."""

from __future__ import annotations

import hashlib
import logging
import re
from base64 import b64encode
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

import streamlit as st
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from forwardinf_core.datasets.images import THUMBNAIL_TYPE
from forwardinf_core.datasets.images import thumbnail as thumbnail_of
from forwardinf_core.datasets.rows import images_of
from forwardinf_core.errors import AuditError
from forwardinf_core.ui import navigation, opening, thumbs
from forwardinf_core.ui.address import NAMES, Address
from forwardinf_core.ui.attribution import drawn
from forwardinf_core.ui.attribution.question import Project
from forwardinf_core.ui.work import lines

if TYPE_CHECKING:
    from forwardinf_core.audits.audit import Audit
    from forwardinf_core.audits.generation.tracing import GenerationAudit
    from forwardinf_core.datasets.rows import DataRows
    from forwardinf_core.ui.opening import OpenProject

LOG = logging.getLogger(__name__)

LARGE, TRUSTED = "large", "trusted"  # a training row to look at closely; a trusted row beside it
LARGE_PIXELS, SMALL_PIXELS = 448, 96


def hashes_of_inline_scripts(html: str) -> list[str]:
    """Return the sources under which a policy allows the scripts written into a page, and no other inline script."""
    return [
        f"'sha256-{b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in re.findall(r"<script>(.*?)</script>", html, flags=re.DOTALL)
    ]


FRONT_PAGE = Path(st.__file__).parent / "static" / "index.html"
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        f"script-src 'self' 'wasm-unsafe-eval' blob: {' '.join(hashes_of_inline_scripts(FRONT_PAGE.read_text()))}",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' ws: wss:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'self'",
    )
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "SAMEORIGIN",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
NO_WORK = "There is no work at this address."
NO_PICTURE, NO_ANSWER = "There is no picture at this address.", "There is no answer at this address."
FOR_EVER = "private, max-age=31536000, immutable"  # an address names one picture of one project in one process


class SecurityHeaders:
    """Adds the headers to every answer. Plain ASGI, so websockets and streams pass untouched."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SECURITY_HEADERS)
            await send(message)

        await self.app(scope, receive, send_with_headers if scope["type"] == "http" else send)


def opened_at(request: Request) -> OpenProject | None:
    """Return the open project that an address with a token is about, or None."""
    ref, opened = thumbs.project_of(request.path_params["token"]), opening.current()
    return opened.audit if ref is not None and ref == opened.project_ref else None


def project_of(request: Request) -> Project | None:
    """Return the open project of an address, where its rows are classified."""
    found = opened_at(request)
    if found is None or found.task not in navigation.CLASSIFICATION:
        return None
    return Project(cast("Audit", found), opening.current().project_ref)


async def thumbnail(request: Request) -> Response:
    """Answer one picture of a row, or a calm 404 when the address names none."""
    values, found = request.path_params, opened_at(request)
    if found is None or found.task not in navigation.PICTURED:
        return PlainTextResponse(NO_PICTURE, status_code=404)
    audit = cast("Audit | GenerationAudit", found)
    try:
        content, media_type = await run_in_threadpool(picture_of, audit, values["split"], values["key"])
    except (AuditError, LookupError, ValueError) as error:
        LOG.info("no picture %s/%s: %s", values["split"], values["key"], error)
        return PlainTextResponse(NO_PICTURE, status_code=404)
    return Response(content, media_type=media_type, headers={"Cache-Control": FOR_EVER})


async def answer(request: Request) -> Response:
    """Answer the card and the board of a question, before the screen is drawn; 404 where there are none."""
    project = project_of(request)
    named = Address(**{name: request.query_params.get(name, "") for name in NAMES})
    if project is None or not named.query:
        return PlainTextResponse(NO_ANSWER, status_code=404)
    try:
        found = await run_in_threadpool(drawn.early, project, named)
    except AuditError as error:
        LOG.info("no early answer to %s: %s", named.query, error)
        return PlainTextResponse(NO_ANSWER, status_code=404)
    return JSONResponse(found, headers={"Cache-Control": "no-store"})


def picture_of(audit: Audit | GenerationAudit, split: str, key: str) -> tuple[bytes, str]:
    """Return a picture and its media type: a row's thumbnail, or a query as the model sees it."""
    if split == thumbs.SHOWN:
        return audit.shown(key), "image/png"
    if split in {LARGE, TRUSTED}:
        rows = audit.train if split == LARGE else trusted_rows(audit)
        if rows is None or not 0 <= int(key) < len(rows):
            raise LookupError(key)
        return thumbnail_of(
            images_of(rows).image(int(key)), LARGE_PIXELS if split == LARGE else SMALL_PIXELS
        ), THUMBNAIL_TYPE
    if split not in {"train", "test"}:
        raise LookupError(split)
    position, count = int(key), len(audit.train_ids if split == "train" else audit.test_ids)
    if not 0 <= position < count:
        raise LookupError(key)
    return thumbs.picture(audit, split, position)


async def work(request: Request) -> Response:
    """Answer how the project's jobs stand; with a job and an action in the address (POST), cancel it or go on."""
    project = opened_at(request)
    if project is None:
        return PlainTextResponse(NO_WORK, status_code=404)
    folder = project.folder
    try:
        if request.method == "POST":
            values = request.path_params
            await run_in_threadpool(lines.act, folder, values["job"], values["action"])
        found = await run_in_threadpool(lines.lines, folder)
    except AuditError as error:
        return JSONResponse({"error": f"{error.title} {error.hint}".strip()}, status_code=409)
    return JSONResponse([asdict(line) for line in found], headers={"Cache-Control": "no-store"})


async def opening_progress(_request: Request) -> JSONResponse:
    """Answer how far the opening of the project is, in the shape of a list of jobs."""
    opened = opening.current()
    line = {
        "id": opened.name,
        "is_active": opened.phase == "opening",
        "share": opened.fraction,
        "note": opened.note,
    }
    return JSONResponse([line], headers={"Cache-Control": "no-store"})


@lru_cache(maxsize=2)
def trusted_rows(audit: Audit | GenerationAudit) -> DataRows | None:
    """Return the project's trusted rows, opened once."""
    return audit.project.trusted_rows(audit.classes)


async def health(_request: Request) -> JSONResponse:
    """Say that the server answers, and whether the project is open."""
    return JSONResponse({"status": "ok", "project": opening.current().phase})
