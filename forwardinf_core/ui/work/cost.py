"""What long work will cost, beside the button that starts it; where it will not fit, that has to be confirmed first."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, TypeVar

import streamlit as st

from forwardinf_core.ui import messages, state
from forwardinf_core.ui.components.watch import after
from forwardinf_core.ui.wording import plain

if TYPE_CHECKING:
    from forwardinf_core.audits.dry_run import DryRun
    from forwardinf_core.jobs.forecast import Forecast

LOOK_AGAIN_MS = 1_500
Rates = TypeVar("Rates")


def cost_of(
    dry_run: DryRun[Rates], reckon: Callable[[Rates], Forecast | None], *, name: str = "", is_centred: bool = False
) -> Forecast | None:
    """Draw what work will cost, and return it; None where that is not known. Never waits.

    ``name`` tells several on one page apart. The dry run it rests on is made aside, once a model; until it is there the
    screen says so and looks again.
    """
    alignment: Literal["center", "left"] = "center" if is_centred else "left"
    rates = dry_run.measured()
    if rates is None:
        dry_run.measure_aside()
        st.caption(":material/hourglass: What it will cost is being measured …", text_alignment=alignment)
        after(LOOK_AGAIN_MS, f"cost {time.monotonic():.0f}", key=state.side(state.COST, name), on_end=lambda: None)
        return None
    found = reckon(rates)
    if found is not None:
        words = plain(found.brief[:1].upper() + found.brief[1:])
        st.caption(f":material/schedule: {words}", text_alignment=alignment)
    return found


def start_button(
    label: str,
    cost: Forecast | None,
    *,
    key: str,
    icon: str,
    on_click: Callable[[], object],
) -> None:
    """Draw the button that starts work; where it will not fit, only a person who says so can start it."""
    is_held = False
    if cost is not None and not cost.fits:
        st.warning(plain(cost.warning), icon=":material/warning:")
        is_held = not st.checkbox("Start it all the same", key=f"{key}-anyway")

    def begin() -> None:
        with messages.guard():
            on_click()

    st.button(label, key=key, type="primary", icon=icon, on_click=begin, disabled=is_held)
