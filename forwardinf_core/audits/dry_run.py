"""A dry run of a few batches, made once for a model and its rows, away from any screen, and kept beside them."""

from __future__ import annotations

import json
import logging
import platform
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from forwardinf_core.errors import AuditError
from forwardinf_core.jobs.execution import available_threads
from forwardinf_core.store.files import make_folder, write_bytes

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

LOG = logging.getLogger(__name__)
Rates = TypeVar("Rates")
_known: dict[Path, tuple[str, object]] = {}
_measuring: set[Path] = set()
_turn = threading.Lock()


@dataclass(frozen=True)
class DryRun(Generic[Rates]):
    """What a few batches showed, a record of type ``rates``, or the way to find out.

    ``prints`` are the fingerprints of what was run; the machine and its threads belong to it, too.
    """

    file: Path
    prints: str
    rates: type[Rates]
    make: Callable[[], Rates]

    @property
    def stamp(self) -> str:
        """What the figures hold for: these files, this machine, so many threads."""
        return f"{self.prints} {platform.node()} {available_threads()}"

    def measured(self) -> Rates | None:
        """Return what was found, None where it was never run. Costs a look into a dictionary."""
        known = _known.get(self.file)
        if known is None or known[0] != self.stamp:
            try:
                kept = json.loads(self.file.read_bytes())
                known = (str(kept["stamp"]), TypeAdapter(self.rates).validate_python(kept["rates"]))
            except (OSError, ValueError, KeyError, TypeError, ValidationError):
                return None  # never made, or of an earlier program: made anew
            _known[self.file] = known
        return cast("Rates", known[1]) if known[0] == self.stamp else None

    def measure(self) -> Rates:
        """Make the dry run and keep what it found. Costs about a second."""
        found = self.make()
        _known[self.file] = self.stamp, found
        record = {"stamp": self.stamp, "rates": asdict(cast("DataclassInstance", found))}
        make_folder(self.file.parent)
        write_bytes(self.file, json.dumps(record).encode())
        return found

    def measure_aside(self) -> None:
        """See that the dry run is made, in a thread of its own, once."""
        with _turn:
            if self.file in _measuring or self.measured() is not None:
                return
            _measuring.add(self.file)

        def work() -> None:
            try:
                self.measure()
            except AuditError as error:
                LOG.warning("the cost of work could not be measured: %s", error)
            finally:
                _measuring.discard(self.file)

        threading.Thread(target=work, name="measure-cost", daemon=True).start()
