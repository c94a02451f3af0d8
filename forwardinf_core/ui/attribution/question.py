"""Which question the screen answers: the link read against the project, and the cached way to its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from forwardinf_core.errors import DataError
from forwardinf_core.ui.address import Address
from forwardinf_core.ui.kept import KeptBy

if TYPE_CHECKING:
    from forwardinf_core.audits.audit import Audit
    from forwardinf_core.audits.records import Attribution, Prediction

QUICK, REFINED = "head", "tail"
OWN_LABEL = "label"  # in the link: the target is the row's own label
ANSWERS_KEPT = 64
_ANSWERS: KeptBy[Attribution] = KeptBy(ANSWERS_KEPT)
_PREDICTIONS: KeptBy[Prediction] = KeptBy(4 * ANSWERS_KEPT)


@dataclass(frozen=True, slots=True)
class Project:
    """An open project and the name its addresses go by."""

    audit: Audit
    ref: str


@dataclass(frozen=True, slots=True)
class Question:
    """A query, the class it is asked about and the way to score."""

    query: str
    prediction: Prediction
    target: int
    method: str

    @property
    def asked(self) -> str:
        """What tells this question from others."""
        return f"{self.query}|{self.target}|{self.method}"


def ask(project: Project, address: Address, query: str) -> Question:
    """Return the question in the link. Raises AuditError where the query or the class does not exist."""
    prediction = _PREDICTIONS.get(project.audit, query, lambda: project.audit.predict(query))
    target = target_of(address.target, prediction, project.audit.classes)
    return Question(query, prediction, target, method_of(project, address))


def target_of(named: str, prediction: Prediction, classes: tuple[str, ...]) -> int:
    """Return the class the link asks about. Raises DataError where it names none of the model's."""
    if not named or (named == OWN_LABEL and prediction.label < 0):
        return prediction.prediction
    if named == OWN_LABEL:
        return prediction.label
    if named.isascii() and named.isdigit() and int(named) < len(classes):
        return int(named)
    raise DataError(
        f"The link asks about class ‘{named}’, which the model does not have.",
        hint=f"It has {len(classes)} classes, numbered 0 to {len(classes) - 1}.",
    )


def method_of(project: Project, address: Address) -> str:
    """Return the method in the link, else the quickest this model allows."""
    if address.method:
        return address.method
    names = [info.name for info in project.audit.methods() if info.available]
    return QUICK if QUICK in names or not names else names[0]


def answer(project: Project, question: Question) -> Attribution:
    """Return the answer to a question; computed at most once. For methods that take long, only when it is stored."""
    return _ANSWERS.get(
        project.audit,
        question.asked,
        lambda: project.audit.attribute(question.query, method=question.method, target=question.target),
    )


def is_quick(project: Project, method: str) -> bool:
    """Say whether a method in the link ("" = the default) answers at once."""
    name = method_of(project, Address(method=method))
    return any(info.name == name and info.scope == "head" for info in project.audit.methods())


def job_for(project: Project, question: Question) -> str | None:
    """Return the job that works on the answer, started if need be, or None where the answer is at hand."""
    if is_quick(project, question.method):
        return None
    return project.audit.attribute_job(question.query, question.method, question.target)
