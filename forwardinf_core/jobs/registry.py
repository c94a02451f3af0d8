"""The kinds of long work there are. A kind is one function, run alike in the foreground, by the worker and in tests.

@dataclass(frozen=True)
class PassOptions:
    rows: int

@job("pass", version=1, fingerprints=fingerprints_of_pass)
def full_pass(context: JobContext, options: PassOptions) -> dict[str, Option]:
    for number in range(...):
        if context.chunks.get(f"rows-{number}") is None:
            context.chunks.put(f"rows-{number}", compute(seed_of(number)))
        context.report(number + 1, total, "scoring")
    return {"run": save_run(...).id}
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast, get_type_hints

from pydantic import TypeAdapter, ValidationError

from forwardinf_core.errors import JobError
from forwardinf_core.store.binding import Binding, Option

if TYPE_CHECKING:
    from forwardinf_core.jobs.context import JobContext

Options = TypeVar("Options")
Function = TypeVar("Function", bound=Callable[..., Mapping[str, Option]])  # (JobContext, frozen dataclass)
NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
_kinds: dict[str, JobKind] = {}


@dataclass(frozen=True)
class JobKind:
    """A registered function. ``version`` rises when it would make its chunks differently."""

    name: str
    function: Callable[[JobContext, object], Mapping[str, Option]]
    version: int
    fingerprints: Callable[[Path, object], Mapping[str, str]] | None

    @cached_property
    def options_type(self) -> type:
        """The frozen dataclass of the function's second parameter."""
        second = list(inspect.signature(self.function).parameters)[1]
        hints = get_type_hints(self.function, localns={"JobContext": object})
        found = hints[second]
        assert isinstance(found, type), found
        assert is_dataclass(found), found
        return found

    def record_of(self, options: object) -> dict[str, Option]:
        """Return options as JSON holds them."""
        assert isinstance(options, self.options_type), (options, self.options_type)
        adapter: TypeAdapter[object] = TypeAdapter(self.options_type)
        record = json.loads(json.dumps(adapter.dump_python(options, mode="json")))
        assert isinstance(record, dict)
        return record

    def options_of(self, record: Mapping[str, object]) -> object:
        """Return the options that ``record_of`` wrote. Raises JobError where this program has others."""
        try:
            options: object = TypeAdapter(self.options_type).validate_python(dict(record))
        except ValidationError as error:
            names = ", ".join(".".join(str(part) for part in item["loc"]) for item in error.errors())
            raise self._misfit(names) from error
        own = self.record_of(options)
        if own != dict(record):
            raise self._misfit(", ".join(sorted(name for name in {*own, *record} if own.get(name) != record.get(name))))
        return options

    def _misfit(self, names: str) -> JobError:
        return JobError(
            f"The options of this {self.name} job do not fit this program ({names}).", hint="Start it anew."
        )

    def binding(self, project: Path, options: object) -> Binding:
        """Return what the work is made from: the key of its chunks, and of the queue's one active job."""
        found = self.fingerprints(project, options) if self.fingerprints else {}
        return Binding(self.name, dict(found), self.record_of(options), self.version)


def job(
    kind: str, *, version: int = 1, fingerprints: Callable[[Path, Options], Mapping[str, str]] | None = None
) -> Callable[[Function], Function]:
    """Register a function as a kind of job.

    ``fingerprints(project, options)`` returns the SHA-256 of what the work reads (model, rows) by name. With it, a job
    whose project changed while it waited or ran fails with a sentence, and chunks of other inputs are never read.
    """
    assert NAME.fullmatch(kind), kind

    def register(function: Function) -> Function:
        known = _kinds.get(kind)
        same = known is not None and known.function.__qualname__ == function.__qualname__
        assert known is None or same, f"two jobs are called {kind}"
        _kinds[kind] = JobKind(
            kind,
            cast("Callable[[JobContext, object], Mapping[str, Option]]", function),
            version,
            cast("Callable[[Path, object], Mapping[str, str]] | None", fingerprints),
        )
        return function

    return register


def find_kind(name: str) -> JobKind:
    """Return a registered kind. Raises JobError with the kinds there are."""
    if name not in _kinds:
        raise JobError(f"This program has no job of kind {name!r}.", hint=f"It has: {', '.join(sorted(_kinds))}.")
    return _kinds[name]
