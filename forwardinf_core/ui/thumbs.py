"""Where a row's small picture is served: addresses that cannot be guessed, valid for one project in one process."""

from __future__ import annotations

import secrets
from base64 import b64encode
from typing import Protocol
from urllib.parse import quote

from forwardinf_core.errors import AuditError
from forwardinf_core.ui.kept import KeptBy


class Pictured(Protocol):
    """An open project that has pictures of its rows."""

    def thumbnail(self, split: str, key: str) -> tuple[bytes, str]: ...


SHOWN = "shown"
SMALL = 6000  # bytes: a picture up to this size costs less inside a message than a request of its own
KEPT = 8192  # pictures kept in memory, a few kB each
_PICTURES: KeptBy[tuple[bytes, str]] = KeptBy(KEPT)
_TOKENS: dict[str, str] = {}  # project → token


def token_of(project_ref: str) -> str:
    """Return the token under which this process serves the pictures of a project; made on first use."""
    return _TOKENS.setdefault(project_ref, secrets.token_urlsafe(24))


def project_of(token: str) -> str | None:
    """Return the project a token stands for, or None. Compared in constant time."""
    return next((ref for ref, known in _TOKENS.items() if secrets.compare_digest(known, token)), None)


def address(project_ref: str, split: str, key: int | str) -> str:
    """Return the address of a row's thumbnail, train or test by position, or of a SHOWN query by its name."""
    return f"/thumbs/{token_of(project_ref)}/{split}/{quote(str(key), safe='')}"


def picture(audit: Pictured, split: str, position: int) -> tuple[bytes, str]:
    """Return a row's encoded thumbnail and its media type, from memory where it was asked for before."""
    return _PICTURES.get(audit, (split, position), lambda: audit.thumbnail(split, str(position)))


def source(audit: Pictured, project_ref: str, split: str, position: int) -> str:
    """Return what an image element shows of a row: a small picture itself, else the address of its thumbnail."""
    try:
        content, media_type = picture(audit, split, position)
    except AuditError:  # a text, or an image that cannot be read: the tile says so when its address brings nothing
        return address(project_ref, split, position)
    if len(content) > SMALL:
        return address(project_ref, split, position)
    return f"data:{media_type};base64,{b64encode(content).decode()}"
