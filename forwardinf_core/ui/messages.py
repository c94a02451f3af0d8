"""What a screen says when there is nothing to show, when it has to wait, and when something went wrong."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from forwardinf_core.errors import AuditError
from forwardinf_core.ui.wording import plain

LOG = logging.getLogger(__name__)

GENERIC_TITLE = "Something in the program went wrong."
GENERIC_HINT = "Nothing you recorded is lost. Reload the page; if it happens again, the program's log says where."


@contextmanager
def guard() -> Iterator[None]:
    """Show whatever the body raises as a calm message in its place, and go on after it."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  # the last stop before the screen: known ones said, others logged
        show_error(error)


def show_error(error: Exception) -> bool:
    """Draw an error as a message. Returns True: it has been shown, nothing else needs to be."""
    if isinstance(error, AuditError):
        st.warning(plain(error.hint) or "Please check and try again.", title=plain(error.title), icon=":material/info:")
    else:
        LOG.error("a screen failed", exc_info=error)
        st.error(GENERIC_HINT, title=GENERIC_TITLE, icon=":material/error:")
    return True


def show_empty(title: str, hint: str, *, icon: str = ":material/inbox:") -> None:
    """Say that there is nothing here yet, and what would change that."""
    with st.container(border=True, horizontal_alignment="center", gap="xxsmall"):
        st.markdown(f":gray[{icon}]", text_alignment="center")
        st.markdown(f"**{title}**", text_alignment="center")
        st.caption(hint, text_alignment="center")
