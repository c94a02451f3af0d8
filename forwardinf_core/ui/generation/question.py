"""Which picture the screen is about and how it is traced: the link read against the project."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from forwardinf_core.errors import DataError, RunNotFoundError
from forwardinf_core.ui import address
from forwardinf_core.ui.frame import GenerationProject
from forwardinf_core.ui.kept import KeptBy

if TYPE_CHECKING:
    from forwardinf_core.audits.generation.methods import Method
    from forwardinf_core.audits.generation.painting import Wish
    from forwardinf_core.audits.generation.records import Generation, Picture

USUAL_STEPS, USUAL_GUIDANCE = 50, 1.0
SETTINGS = ("prompt", "seed", "steps", "guidance")
ANSWERS_KEPT = 32
_ANSWERS: KeptBy[Generation] = KeptBy(ANSWERS_KEPT)


@dataclass(frozen=True, slots=True)
class Link:
    """What the link says. Empty = not said. A picture is named by how to paint it, by itself, or by a finished run."""

    prompt: str = ""  # the class or prompt it is painted for, or asked about
    seed: str = ""
    steps: str = ""
    guidance: str = ""
    picture: str = ""  # "train:ID", "test:ID" or "image:KEY"
    run: str = ""  # a finished trace
    method: str = ""
    shortlist: str = ""  # share of the training images that are scored, "" = all
    view: str = ""  # "alike": what the picture looks like
    row: str = ""  # id of the open training row
    column: str = ""  # what the groups are made by
    differ: str = ""  # the one setting in which a second picture differs
    other: str = ""  # its value there

    @property
    def is_empty(self) -> bool:
        """Say whether the link names no picture."""
        return not (self.seed or self.picture or self.run)

    @property
    def second(self) -> Link:
        """The link of the picture it is compared with."""
        return replace(self, **{self.differ: self.other}, differ="", other="", row="")


def read() -> Link:
    """Return what the link says now."""
    said = address.link()
    return Link(**{field.name: said.get(field.name, "") for field in fields(Link)})


def ask_for(**changes: str) -> None:
    """Put another picture into the link; what belonged to the one before goes."""
    gone = dict.fromkeys((*SETTINGS, "picture", "run", "row", "differ", "other", "view"), "")
    address.go(**{**gone, **changes})


def link_to(wish: Wish) -> dict[str, str]:
    """Return what the link to a painted picture says."""
    return {
        "prompt": wish.prompt or "",
        "seed": str(wish.seed),
        "steps": str(wish.steps),
        "guidance": f"{wish.guidance:g}",
    }


def wish_in(link: Link) -> Wish | None:
    """Return how the picture in the link is painted; None where it names one in another way.

    Raises DataError where a setting is no number.
    """
    from forwardinf_core.audits.generation.painting import Wish

    if link.picture or link.run or not link.seed:
        return None
    return Wish(
        link.prompt or None,
        _whole("seed", link.seed),
        _whole("steps", link.steps or str(USUAL_STEPS)),
        _number("guidance", link.guidance or str(USUAL_GUIDANCE)),
    )


def _whole(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise DataError(f"The {name} ‘{text[:40]}’ in the link is no whole number.", hint="Use digits only.")
    return int(text)


def _number(name: str, text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = float("nan")
    if not abs(found) < 1e6:
        raise DataError(f"The {name} ‘{text[:40]}’ in the link is no number.", hint="An example: 1.5")
    return found


def method_of(link: Link) -> Method:
    """Return the method in the link, else the default. Raises AuditError where there is none of this name."""
    from forwardinf_core.audits.generation.methods import method_named

    if not link.shortlist:
        return method_named(link.method or None)
    return method_named(link.method or None, shortlist=_number("shortlist", link.shortlist))


def picture_in(project: GenerationProject, link: Link) -> Picture | None:
    """Return the picture in the link, None where it has not been painted yet. Raises AuditError where there is none."""
    from forwardinf_core.audits.generation.painting import check, painted

    wish = wish_in(link)
    if wish is not None:
        check(project.audit, wish)
        return painted(project.audit, wish)
    if link.run:
        return project.audit.opened(link.run).picture
    return project.audit.picture(link.picture, link.prompt or None)


def answer(project: GenerationProject, picture: Picture, link: Link) -> Generation | None:
    """Return the answer in the link where it was computed before."""
    if link.run:
        return _ANSWERS.get(project.audit, link.run, lambda: project.audit.opened(link.run))
    method = method_of(link)

    def stored() -> Generation:
        found = project.audit.stored(picture, method)
        if found is None:
            raise RunNotFoundError("This has not been traced yet.")
        return found

    try:
        return _ANSWERS.get(project.audit, (picture.query, picture.label, method), stored)
    except RunNotFoundError:
        return None
