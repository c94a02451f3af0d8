"""``bench forecast``: what long work is said to cost against what it costs, on a copy of a project without caches."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from forwardinf_core.audits import costs
from forwardinf_core.audits.attribution import AttributeOptions
from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.leakage.detection import LeakageOptions
from forwardinf_core.audits.memorization.finding import MemorizationOptions
from forwardinf_core.audits.methods import method_named
from forwardinf_core.audits.mislabels.finding import FindOptions
from forwardinf_core.audits.opening import load_audit
from forwardinf_core.jobs import run
from forwardinf_core.jobs.forecast import Forecast
from forwardinf_core.jobs.memory import peak_bytes, reset_peak
from forwardinf_core.store.files import allocated_bytes

METHODS = ("head", "tail", "tail", "full", "full", "cascade", "forward-inf", "tail-ekfac")
SEARCHES: tuple[tuple[str, object], ...] = (
    ("memorization", MemorizationOptions()),
    ("leakage", LeakageOptions()),
    ("mislabels", FindOptions()),
)


@dataclass(frozen=True)
class Compared:
    """One piece of work: seconds, memory and disk as they were said and as they were."""

    work: str
    said_s: float
    took_s: float
    said_memory_bytes: int
    peak_bytes: int
    said_disk_bytes: int
    grown_bytes: int


def compare(project: Path, folder: Path) -> list[Compared]:
    """Do every sort of long work on a copy of a project in ``folder``, and compare."""
    copy = folder / project.name
    shutil.copytree(project, copy, ignore=shutil.ignore_patterns(".audit", "demo.json"))
    audit = load_audit(copy)
    rates = costs.dry_run_of(audit).measure()
    found = []
    for number, name in enumerate(METHODS):
        options = AttributeOptions((f"test:{audit.test_ids[number]}",), method_named(name))
        said = costs.of_attribution(audit, options.method, rates)
        found.append(_done(audit, f"{name}, query {number + 1}", said, "attribute", options))
    for kind, search in SEARCHES:
        cost = costs.of_audit(audit, kind, rates)
        assert cost is not None
        found.append(_done(audit, kind, cost, kind, search))
    return found


def _done(audit: Audit, work: str, said: Forecast, kind: str, options: object) -> Compared:
    before, began = allocated_bytes(audit.project.audit_dir), time.monotonic()
    reset_peak()
    run.run_here(kind, audit.folder, options)
    took, grown = time.monotonic() - began, allocated_bytes(audit.project.audit_dir) - before
    return Compared(work, said.seconds or 0.0, took, said.peak_bytes, peak_bytes(), said.disk_bytes, grown)
