"""Which question the screen answers: the link read against the project, and the cached way to its answer."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import streamlit as st

from forwardinf_core.ui import address
from forwardinf_core.ui.frame import TracingProject
from forwardinf_core.ui.thumbs import token_of

if TYPE_CHECKING:
    from forwardinf_core.audits.tracing.audit import TracingAudit
    from forwardinf_core.audits.tracing.methods import TraceMethod
    from forwardinf_core.audits.tracing.records import Said, TokenShare, Trace
    from forwardinf_core.jobs.queue import JobStatus

ANSWERS_KEPT = 64
RANKINGS = {
    "helped": "Helped",
    "hurt": "Hurt",
    "bm25": "Same words (BM25)",
    "embedding": "Alike (hidden states)",
    "overlap": "Verbatim",
    "fused": "Fused",
}


@dataclass(frozen=True, slots=True)
class Link:
    """What the link says. Empty = not said."""

    prompt: str = ""
    completion: str = ""  # "" = the model's own
    span: str = ""  # positions of tokens, "7,8"; "" = the whole completion
    other: str = ""  # a second completion of the same prompt
    method: str = ""
    ranking: str = ""  # a key of RANKINGS
    text: str = ""  # id of the open text
    column: str = ""  # filter: column and the value wanted there
    value: str = ""

    @property
    def places(self) -> tuple[int, ...]:
        """The positions of the tokens asked about."""
        return tuple(int(part) for part in self.span.split(",") if part.strip().isdigit())


def read() -> Link:
    """Return what the link says now."""
    said = address.link()
    return Link(**{field.name: said.get(field.name, "") for field in fields(Link)})


def ask(prompt: str, completion: str) -> None:
    """Put a new question into the link; what belonged to the old one goes."""
    address.go(prompt=prompt, completion=completion, span="", other="", text="", column="", value="")


def method_of(project: TracingProject, link: Link) -> TraceMethod:
    """Return the method in the link, else the default. Raises AuditError where there is none of this name."""
    return project.audit.method(link.method)


def said(project: TracingProject, prompt: str, completion: str, places: tuple[int, ...] = ()) -> Said:
    """Return the prompt with its completion, token by token. Raises AuditError for what cannot be asked."""
    return _said(token_of(project.ref), prompt, completion, places, project.audit)


@st.cache_resource(max_entries=ANSWERS_KEPT, show_spinner=False)
def _said(token: str, prompt: str, completion: str, places: tuple[int, ...], _audit: TracingAudit) -> Said:  # noqa: ARG001
    return _audit.say(prompt, completion or None, places)


def answer(project: TracingProject, asked: Said, method: TraceMethod) -> Trace | JobStatus:
    """Return the answer where it takes seconds or is stored, else the job that works on it, or did and stopped."""
    from forwardinf_core.audits.tracing.opening import TraceOptions
    from forwardinf_core.jobs import run as jobs

    question = project.audit.question(asked)
    known = project.audit.stored(question, method)
    if known is not None:
        return known
    if project.audit.is_quick(method):
        return project.audit.trace(question, method)
    return jobs.submit_once("trace", project.audit.folder, TraceOptions(question, method))


@st.cache_resource(max_entries=16 * ANSWERS_KEPT, show_spinner=False)
def token_shares(token: str, run_id: str, position: int, _audit: TracingAudit, _trace: Trace) -> tuple[TokenShare, ...]:  # noqa: ARG001
    """Return the tokens of a training text with what each adds to its score."""
    return _audit.tokens(_trace, position)
