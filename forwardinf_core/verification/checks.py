"""A check of the answers: what was found, whether that is good, and what it means, ready to be shown and kept.

A canary has a recall (the share of planted rows that were found among the first k); a control has a figure alone.
Thresholds are stated with every verdict. They are conventions, chosen once with the digits demo at hand, and the figure
is always shown beside the colour.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal, cast

from forwardinf_core.store.binding import Option

Verdict = Literal["green", "amber", "red"]
Colour = Literal["green", "amber", "red", "grey"]


@dataclass(frozen=True, slots=True)
class Check:
    """One control or canary that has been looked at.

    ``figure`` is the number behind the verdict and ``shown`` the same in words. ``meaning`` is one sentence on what it
    says of this project, ``rule`` the thresholds and why they are there.
    """

    name: str
    title: str
    verdict: Verdict
    figure: float
    shown: str
    meaning: str
    rule: str
    recall: float | None = None
    k: int | None = None

    def record(self) -> dict[str, Option]:
        """Return the check as JSON holds it."""
        return cast("dict[str, Option]", asdict(self))

    @staticmethod
    def of(record: Mapping[str, Option]) -> Check:
        """Return the check that ``record`` wrote."""
        return Check(**cast("dict[str, str]", dict(record)))  # type: ignore[arg-type]  # written by this program


@dataclass(frozen=True, slots=True)
class Light:
    """One light of the summary: a check, or grey where it has not been made yet. ``part`` is where to make it."""

    name: str
    title: str
    colour: Colour
    shown: str
    meaning: str
    rule: str
    part: str

    @staticmethod
    def lit(check: Check, part: str) -> Light:
        """Return the light of a check that was made."""
        return Light(check.name, check.title, check.verdict, check.shown, check.meaning, check.rule, part)

    @staticmethod
    def grey(name: str, title: str, meaning: str, part: str) -> Light:
        """Return the light of a check that nobody has made yet."""
        return Light(name, title, "grey", "not checked yet", meaning, "", part)


def at_least(value: float, green: float, amber: float) -> Verdict:
    """Return the verdict on a figure of which more is better. NaN is red: what cannot be shown does not hold."""
    return "green" if value >= green else "amber" if value >= amber else "red"


def at_most(value: float, green: float, amber: float) -> Verdict:
    """Return the verdict on a figure of which less is better. NaN is red."""
    return "green" if value <= green else "amber" if value <= amber else "red"
