"""The frame around every page: navigation, and what is shown until the project is open."""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from forwardinf_core.ui import frame, messages, navigation, opening, state
from forwardinf_core.ui.components.watch import watch
from forwardinf_core.ui.wording import plain
from forwardinf_core.ui.work.panel import panel


def preparing(opened: opening.Opening) -> None:
    """Show how far the opening is; everything is drawn again when it has ended.

    The browser asks the web server, not a script: drawing again and again would take the time that opening needs.
    """
    demo = opened.project_ref.removeprefix("demo:") if opened.project_ref.startswith("demo:") else ""
    with st.container(width=560, gap="medium"):
        frame.heading(
            f"Preparing the {demo} demo" if demo else "Opening the project",
            "The first time, its model is trained here, on this machine." if demo else opened.project_ref,
        )
        watch(opening.ADDRESS, opened.name, key=state.OPENING_PROGRESS, words="", slim=False, on_end=lambda: None)


def refused(opened: opening.Opening) -> None:
    """Say why the project could not be opened, and offer another try."""
    frame.heading("This project cannot be opened", opened.project_ref)
    messages.show_error(opened.fault or opening.GENERIC_FAULT)
    st.button("Try again", key=state.TRY_AGAIN, icon=":material/refresh:", on_click=opening.again)


def choose_page(task: str) -> tuple[StreamlitPage, navigation.Entry]:
    """Draw the navigation for a task ("" = not known yet); return the page the address names, and its entry.

    A page for other tasks is not listed, but keeps its address, so that a link to it gets an answer.
    """
    drawn = {
        entry: st.Page(
            frame.PAGES / f"{entry.name}.py",
            title=entry.title,
            icon=entry.icon,
            default=entry is navigation.ENTRIES[0],
            visibility="visible" if not task or task in entry.tasks else "hidden",
        )
        for entry in navigation.ENTRIES
    }
    sections = {
        section: [page for entry, page in drawn.items() if entry.section == section] for section in navigation.SECTIONS
    }
    named = st.navigation({section: found for section, found in sections.items() if found}, expanded=True)
    return named, next(entry for entry, page in drawn.items() if page == named)


def for_other_tasks(entry: navigation.Entry, task: str) -> None:
    """Say that a page is not for this project; without a page in the address, go where this task starts."""
    start = navigation.start_of(task)
    if entry is navigation.ENTRIES[0] and start is not None:
        st.switch_page(frame.PAGES / f"{start.name}.py")
    frame.heading(entry.title, "")
    messages.show_empty(
        f"{entry.title} is not for this project.",
        f"It works for {', '.join(entry.tasks)}; this project is {plain(task)}.",
        icon=":material/block:",
    )


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
    opened = opening.current()
    task = opened.task
    page, entry = choose_page(task)
    if opened.phase == "opening":
        preparing(opened)
    elif opened.phase == "failed":
        refused(opened)
    else:
        st.html(Path(__file__).parent / "page.css")
        with st.sidebar, messages.guard():
            panel(frame.project().audit.folder, opened.project_ref)
        with st.container(key=state.PAGE), messages.guard():
            if task in entry.tasks:
                page.run()
            else:
                for_other_tasks(entry, task)


main()
