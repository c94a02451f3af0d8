"""The frame around every page: navigation, and what is shown until the project is open."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from forwardinf_core.ui import frame, messages, opening, state, work
from forwardinf_core.ui.wording import plain

POLL = "400ms"


def preparing(opened: opening.Opening) -> None:
    """Show how far the opening is; draw everything again when it has ended."""
    demo = opened.project_ref.removeprefix("demo:") if opened.project_ref.startswith("demo:") else ""

    @st.fragment(run_every=POLL)
    def progress() -> None:
        if opened.phase != "opening":
            st.rerun()
        st.progress(opened.fraction, text=plain(opened.note))

    with st.container(width=560, gap="medium"):
        frame.heading(
            f"Preparing the {demo} demo" if demo else "Opening the project",
            "This happens once: the model is trained here, on this machine." if demo else opened.project_ref,
        )
        progress()


def refused(opened: opening.Opening) -> None:
    """Say why the project could not be opened, and offer another try."""
    frame.heading("This project cannot be opened", opened.project_ref)
    messages.show_error(opened.fault or opening.GENERIC_FAULT)
    st.button("Try again", key=state.TRY_AGAIN, icon=":material/refresh:", on_click=opening.again)


def main() -> None:
    """Draw the frame and the page the address names."""
    st.set_page_config(
        page_title="Forward-INF",
        page_icon=str(frame.ASSETS / "logo" / "icon.png"),
        layout="wide",
        initial_sidebar_state=224,
    )
    mode = "dark" if st.context.theme.type == "dark" else "light"
    st.logo(str(frame.ASSETS / "logo" / f"logo-{mode}.svg"), icon_image=str(frame.ASSETS / "logo" / "icon.svg"))
    page = st.navigation(
        {
            "Explore": [
                st.Page(frame.PAGES / "overview.py", title="Overview", icon=":material/dashboard:", default=True),
                st.Page(frame.ATTRIBUTION, title="Attribution", icon=":material/hub:"),
            ],
        },
        expanded=True,
    )
    opened = opening.current()
    if opened.phase == "opening":
        preparing(opened)
    elif opened.phase == "failed":
        refused(opened)
    else:
        st.html(Path(__file__).parent / "page.css")
        with messages.guard():
            work.panel(frame.project().audit.folder)
        with st.container(key=state.PAGE), messages.guard():
            page.run()


main()
