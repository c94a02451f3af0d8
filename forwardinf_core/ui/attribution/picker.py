"""Where a person chooses the query: test rows to browse and filter, or an image or a text of their own."""

from __future__ import annotations

from urllib.parse import urlencode

import streamlit as st

from forwardinf_core.errors import AuditError
from forwardinf_core.ui import address, answers, messages, state, thumbs
from forwardinf_core.ui.address import Address
from forwardinf_core.ui.attribution.question import OWN_LABEL, REFINED, Project, is_quick
from forwardinf_core.ui.components.gallery import gallery
from forwardinf_core.ui.wording import counted

TEST_ROWS = "Test rows"
OWN = {"image": "Your image", "text": "Your text"}
UPLOAD_TYPES = ["png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff"]
UPLOAD_LIMIT_MB = 20
ALL_CLASSES = -1
ROWS_WIDE, ROWS_NARROW = 48, 16


@st.fragment
def picker(project: Project, drawn: Address, *, wide: bool, fragment: str = "") -> None:
    """Draw the choice of a query; filters draw only this again, choosing a query the fragment or the whole screen."""
    with messages.guard():
        source = st.segmented_control(
            "Explain a prediction for",
            (TEST_ROWS, OWN[project.audit.content]),
            default=TEST_ROWS,
            required=True,
            key=state.PICK_SOURCE,
            label_visibility="collapsed",
            persist_state="session",
        )
        if source == TEST_ROWS:
            browse_test_rows(project, drawn, wide=wide, fragment=fragment)
        elif project.audit.content == "text":
            with st.container():  # one place, which the answer takes over: nothing of the box stays beside it
                typed(project, fragment)
        else:
            upload(project, fragment)


def browse_test_rows(project: Project, drawn: Address, *, wide: bool, fragment: str) -> None:
    """Draw the filters and one page of test rows."""
    audit = project.audit
    columns = st.columns([1.1, 1, 1.2], vertical_alignment="bottom") if wide else [st.container() for _ in range(3)]
    if not wide:
        top = st.columns(2, gap="small")
        columns = [*top, top[1]]
    order = columns[0].selectbox("Show", answers.ORDERS, key=state.PICK_SHOW, persist_state="session")
    code = columns[1].selectbox(
        "Class",
        [ALL_CLASSES, *range(len(audit.classes))],
        format_func=lambda code: "All classes" if code == ALL_CLASSES else audit.classes[code],
        key=state.PICK_CLASS,
        persist_state="session",
    )
    search = ""
    if wide:
        search = columns[2].text_input(
            "Search",
            key=state.PICK_ID,
            placeholder="Part of a row's id",
            icon=":material/search:",
            live=True,
            persist_state="session",
        )
    found = answers.browse(
        audit.predictions(),
        audit.test_ids,
        order=order or answers.ORDERS[0],
        code=None if code == ALL_CLASSES else code,
        search=search or "",
    )
    if not len(found):
        messages.show_empty("No test row fits.", "Choose another class, or clear the search.")
        return
    size = ROWS_WIDE if wide else ROWS_NARROW
    pages = -(-len(found) // size)
    page = min(int(st.session_state.get(state.PICK_PAGE) or 1), pages)
    rows = found[(page - 1) * size : page * size]
    gallery(
        answers.query_tiles(audit, project.ref, rows),
        key=state.PICK_GALLERY,
        label="Test rows",
        selected=drawn.query,
        tile_width=84 if wide else 58,
        follow=False,
        early="" if wide else early_address(project),
        on_select=lambda query: choose(query, fragment),
    )
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        st.caption(counted(len(found), "test row"))
        if pages > 1:
            st.pagination(pages, key=state.PICK_PAGE, max_visible_pages=5, persist_state="session")


def choose(query: str, fragment: str) -> None:
    """Make a query the one the screen explains, or the second one where a comparison waits for it; draw it again."""
    named = address.read()
    if st.session_state.pop(state.PICK_FOR_COMPARISON, None):
        address.go(compare=query if query != named.query else "")
    else:
        address.go(query=query, row="", compare="", **carried_over(named))
    st.rerun(fragment or "app")


def carried_over(named: Address) -> dict[str, str]:
    """Return what the next question keeps of the one in the link: its kind of target, and a method asked for."""
    return {
        "target": named.target if named.target == OWN_LABEL else "",
        "method": "" if named.method == REFINED else named.method,
    }


def early_address(project: Project) -> str:
    """Return where the browser can fetch the answer to the next choice, "" where choosing leads elsewhere."""
    kept = carried_over(address.read())
    if st.session_state.get(state.PICK_FOR_COMPARISON) or not is_quick(project, kept["method"]):
        return ""
    return f"/answers/{thumbs.token_of(project.ref)}?{urlencode(kept)}"


def typed(project: Project, fragment: str) -> None:
    """Draw the box for a text; what the service refuses is said calmly."""

    def received() -> None:
        st.session_state.pop(state.UPLOAD_FAULT, None)
        try:
            choose(project.audit.add_text(str(st.session_state.get(state.PICK_TEXT) or "")), fragment)
        except AuditError as error:
            st.session_state[state.UPLOAD_FAULT] = error

    st.text_area(
        "A text the model has not seen",
        key=state.PICK_TEXT,
        height=140,
        placeholder="Type or paste a text",
        help="It stays on this machine and is read exactly as the training texts were.",
        persist_state="session",
    )
    st.button("Explain", key=state.PICK_EXPLAIN, type="primary", icon=":material/arrow_forward:", on_click=received)
    fault = st.session_state.get(state.UPLOAD_FAULT)
    if fault is not None:
        messages.show_error(fault)


def upload(project: Project, fragment: str) -> None:
    """Draw the upload of an image; what the service refuses is said calmly."""

    def received() -> None:
        st.session_state.pop(state.UPLOAD_FAULT, None)
        file = st.session_state.get(state.PICK_UPLOAD)
        if file is None:
            return
        try:
            choose(project.audit.add_upload(file.getvalue(), file.name), fragment)
        except AuditError as error:
            st.session_state[state.UPLOAD_FAULT] = error

    st.file_uploader(
        "An image the model has not seen",
        type=UPLOAD_TYPES,
        key=state.PICK_UPLOAD,
        max_upload_size=UPLOAD_LIMIT_MB,
        on_change=received,
        help="It is prepared exactly as the training images were, stays on this machine and is shown as the model "
        "sees it.",
    )
    fault = st.session_state.get(state.UPLOAD_FAULT)
    if fault is not None:
        messages.show_error(fault)
