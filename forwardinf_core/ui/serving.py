"""What the web server answers besides the screens: thumbnails, health, and headers that keep the page to itself."""

from __future__ import annotations

import hashlib
import logging
import re
from base64 import b64encode
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

if TYPE_CHECKING:
    from forwardinf_core.audits.audit import Audit
    from forwardinf_core.datasets.rows import DataRows

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


async def thumbnail(request: Request) -> Response:
    """Answer one picture of a row, or a calm 404 when the address names none."""
    values = request.path_params
    project_ref = thumbs.project_of(values["token"])
    audit = cast("Audit | None", opening.current().audit)
    if (
        project_ref is None
        or audit is None
        or audit.task not in navigation.CLASSIFICATION
        or project_ref != opening.current().project_ref
    ):
        return PlainTextResponse("There is no picture at this address.", status_code=404)
    try:
        content, media_type = await run_in_threadpool(picture_of, audit, values["split"], values["key"])
    except (AuditError, LookupError, ValueError) as error:
        LOG.info("no picture %s/%s: %s", values["split"], values["key"], error)
        return PlainTextResponse("There is no picture at this address.", status_code=404)
    return Response(content, media_type=media_type, headers={"Cache-Control": FOR_EVER})


def picture_of(audit: Audit, split: str, key: str) -> tuple[bytes, str]:
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
    return audit.thumbnail(split, key)


@lru_cache(maxsize=2)
def trusted_rows(audit: Audit) -> DataRows | None:
    """Return the project's trusted rows, opened once."""
    return audit.project.trusted_rows(audit.classes)


async def health(_request: Request) -> JSONResponse:
    """Say that the server answers, and whether the project is open."""
    return JSONResponse({"status": "ok", "project": opening.current().phase})
