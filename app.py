"""Where the app starts: `streamlit run app.py`, or `streamlit run app.py -- PROJECT` for a project of your own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from forwardinf_core.ui import left_page, messages, opening
from forwardinf_core.ui.serving import SecurityHeaders, answer, health, opening_progress, thumbnail, work

ROOT = Path(__file__).resolve().parent


@asynccontextmanager
async def warm_up(_app: st.App) -> AsyncIterator[None]:
    """Begin to open the project (a demo that is not there is built) as soon as the server starts."""
    opening.current()
    yield


left_page.mend()
app = st.App(
    ROOT / "forwardinf_core" / "ui" / "shell.py",
    routes=[
        Mount("/assets", StaticFiles(directory=ROOT / "assets")),
        Route("/thumbs/{token}/{split}/{key:path}", thumbnail),
        Route("/answers/{token}", answer),
        Route("/work/{token}", work),
        Route("/work/{token}/{job:int}/{action}", work, methods=["POST"]),
        Route(opening.ADDRESS, opening_progress),
        Route("/health", health),
    ],
    middleware=[Middleware(SecurityHeaders)],
    lifespan=warm_up,
    on_script_error=messages.show_error,
)
