"""What the link of the review says: which rows to go through, how, and which one is on screen."""

from __future__ import annotations

from dataclasses import dataclass, replace

from forwardinf_core.audits.review import STATES, Filter, State
from forwardinf_core.errors import DataError
from forwardinf_core.ui import address

NAMES = ("show", "label", "suggested", "low", "high", "by", "rows", "view", "row")


@dataclass(frozen=True, slots=True)
class Place:
    """The filter in the link, the view ("cards" or "grid"), and the id of a row to begin with."""

    chosen: Filter
    view: str
    row: str


def read(classes: tuple[str, ...]) -> Place:
    """Return what the link says. Raises DataError where it names a class that does not exist or no number."""
    link = address.link()
    said = {name: link.get(name, "") for name in NAMES}
    states: dict[str, State] = {name: name for name in STATES}
    chosen = Filter(
        state=states.get(said["show"], "open"),
        label=_class(said["label"], classes),
        suggested=_class(said["suggested"], classes),
        low=_number(said["low"]),
        high=_number(said["high"]),
        reviewer=said["by"],
    )
    whole = said["rows"] == "all" or chosen.low is not None or chosen.high is not None
    return Place(replace(chosen, whole=whole), "grid" if said["view"] == "grid" else "cards", said["row"])


def _class(text: str, classes: tuple[str, ...]) -> int | None:
    if not text:
        return None
    if text.isascii() and text.isdigit() and int(text) < len(classes):
        return int(text)
    raise DataError(
        f"The link asks for class ‘{text[:40]}’, which this project does not have.",
        hint=f"Classes are numbered from 0 to {len(classes) - 1}.",
    )


def _number(text: str) -> float | None:
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise DataError(f"The link asks for suspicion ‘{text[:40]}’.", hint="Expected a number such as 0.9.") from None
