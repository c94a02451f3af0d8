"""Where a row's small picture is served: addresses that cannot be guessed, valid for one project in one process."""

from __future__ import annotations

import secrets
from urllib.parse import quote

SHOWN = "shown"
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
