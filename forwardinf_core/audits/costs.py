"""What long work will cost, before it begins: a dry run of a few batches, and how many passes each kind of work takes.

The dry run (``projects.forecast``) is made once for a model and its training rows, away from any screen, and kept. How
many passes work takes was measured on digits and on images of 32 × 32 (docs/screens.md); a test holds it to a factor of
3. Caches that are on disk already are not reckoned again.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

from forwardinf_core.audits.dry_run import DryRun
from forwardinf_core.audits.methods import Method, method_named, shortlisting
from forwardinf_core.audits.preparation import FACTOR_ROWS, FITTED
from forwardinf_core.influence.head import MOST_PARAMETERS
from forwardinf_core.jobs.forecast import Forecast, free_memory_bytes, judged
from forwardinf_core.projects.forecast import Forecast as Rates
from forwardinf_core.projects.forecast import forecast
from forwardinf_core.store.chunks import MANIFEST
from forwardinf_core.store.files import read_json

if TYPE_CHECKING:
    from forwardinf_core.audits.audit import Audit

PROGRAM_BYTES = 480_000_000  # PyTorch and the libraries, before any row
AUDIT_BYTES = 300_000_000  # what a search of all rows holds beside
SCORE_BYTES = 40  # a row of a finished answer on disk
BYTES_OF_AUDIT = {"leakage": 2_400, "memorization": 45, "mislabels": 375}  # a row of what it reads
PLANTED = 1_400  # rows that leakage makes to learn from
FLOAT_BYTES = 4
MOST_KEPT = 200  # forecasts in memory
START_S = 4.0  # a process that begins: libraries, model, the graph it is exported to
PASSES_OF_SCORING = {"head": 0.01, "tail": 0.25, "full": 1.05, "cascade": 0.15}  # by scope, a query (docs/method.md)
PASSES_OF_FACTORS = {"head": 7.0, "tail": 7.0, "full": 17.0, "cascade": 17.0}  # EK-FAC's reads of the rows it samples
PASSES_OF_BLOCK = 0.9  # the subspace's dense block
PASSES_OF_DIAGONAL = 3.0
PASSES_OF_EXACT = {True: 1.0, False: 5.0}  # the head's, and a gradient of every row
PASSES_OF_AN_ITERATION = 1.2  # of conjugate gradients
PASSES_OF_A_STEP = 4  # forward, backward (twice as much) and the optimiser with augmentation, in forward passes
PASSES_OVER_TEST = 2  # as they are and mirrored
PASSES_OF_AUDIT = {"leakage": 8.0, "memorization": 2.0, "mislabels": 40.0}
WHITENING_S = 3.0  # the eigenvectors that leakage compares rows in, whatever the number of rows
_reckoned: dict[str, Forecast] = {}


def dry_run_of(audit: Audit) -> DryRun[Rates]:
    """Return the dry run of this model over its training rows."""
    prints = f"{audit.model.fingerprint} {audit.train.fingerprint}"
    return DryRun(audit.project.audit_dir / "cost.json", prints, Rates, lambda: forecast(audit.model, audit.train))


def of_method(audit: Audit, name: str) -> Forecast | None:
    """Return what one more answer costs, None while nothing is measured; looks at caches only when they change."""
    dry_run, caches = dry_run_of(audit), audit.project.audit_dir / "caches"
    rates = dry_run.measured()
    if rates is None:
        return None
    changed = caches.stat().st_mtime_ns if caches.is_dir() else 0
    key = f"{dry_run.file} {dry_run.stamp} {changed} {name}"
    if key not in _reckoned:
        if len(_reckoned) > MOST_KEPT:
            _reckoned.clear()
        _reckoned[key] = of_attribution(audit, method_named(name), rates)
    free = shutil.disk_usage(audit.folder).free
    return replace(_reckoned[key], free_disk_bytes=free, free_memory_bytes=free_memory_bytes())


def of_attribution(audit: Audit, method: Method, rates: Rates, *, queries: int = 1) -> Forecast:
    """Return what answers by a method cost, with the caches and the curvature that are missing."""
    n_rows, place = len(audit.train), "full" if method.scope == "cascade" else method.scope
    passes = queries * PASSES_OF_SCORING[method.scope]
    reads = 1.0 if method.scope == "full" else 0.0  # of the rows themselves
    disk = queries * n_rows * (SCORE_BYTES + FLOAT_BYTES * len(audit.classes))
    memory = PROGRAM_BYTES + rates.memory_bytes
    for scope in {"head", "full"} if method.scope == "cascade" else {method.scope}:
        if not audit.is_ready(scope):
            passes, reads = passes + 1, reads + 1
            disk += cache_bytes(audit, scope, rates)
    if place == "tail":
        memory += cache_bytes(audit, place, rates)  # memory-mapped, and read
    if method.scope == "cascade" and not is_fitted(audit, "head", head := shortlisting(method)):
        disk += curvature_bytes(audit, replace(head, scope="head"))
    if method.curvature == "cg":
        passes += queries * PASSES_OF_AN_ITERATION * method.iterations
    if method.curvature is not None:
        memory += curvature_bytes(audit, method)
        if not is_fitted(audit, place, method):
            passes += passes_of_fitting(method, n_rows)
            reads += place == "full"
            disk += curvature_bytes(audit, method)
    return judged(audit.folder, START_S + passes * rates.forward_seconds + reads * rates.decode_seconds, memory, disk)


def of_audit(audit: Audit, kind: str, rates: Rates) -> Forecast | None:
    """Return what a search of all rows costs (leakage, memorization, wrong labels); None for other kinds of work."""
    if kind not in PASSES_OF_AUDIT:
        return None
    share = (len(audit.train) + PASSES_OVER_TEST * len(audit.test)) / len(audit.train)
    seconds = share * (PASSES_OF_AUDIT[kind] * rates.forward_seconds + rates.decode_seconds)
    seconds += WHITENING_S if kind == "leakage" else 0.0
    rows = len(audit.train) + (PASSES_OVER_TEST * len(audit.test) + PLANTED if kind == "leakage" else 0)
    disk = rows * BYTES_OF_AUDIT[kind] + (0 if audit.is_ready("head") else cache_bytes(audit, "head", rates))
    memory = PROGRAM_BYTES + AUDIT_BYTES + rates.memory_bytes + 2 * cache_bytes(audit, "head", rates)
    return judged(audit.folder, START_S + seconds, memory, disk)


def of_every(audit: Audit, rates: Rates) -> dict[str, Forecast]:
    """Return what the first long work of each sort costs, by what it is called on the command line."""
    found = {
        f"attribute --method {info.name}": of_attribution(audit, method_named(info.name), rates)
        for info in audit.methods()
        if info.available
    }
    for kind in PASSES_OF_AUDIT:
        cost = of_audit(audit, kind, rates)
        if cost is not None:
            found[kind] = cost
    return found


def of_trainings(
    audit: Audit, trainings: int, rates: Rates, *, share: float = 1.0, beside: str | None = None
) -> Forecast:
    """Return what retraining the model costs, so many times on a share of the rows, ``beside`` an audit of this kind.

    Raises ModelError, saying what is possible instead, where the model cannot be retrained.
    """
    from forwardinf_core.verification.recipes import epochs_of

    passes = PASSES_OF_A_STEP * epochs_of(audit) * share * trainings
    passes += PASSES_OF_AUDIT[beside] if beside else 0.0
    outputs = trainings * (len(audit.train) + len(audit.test)) * len(audit.classes) * FLOAT_BYTES
    memory = PROGRAM_BYTES + 3 * rates.memory_bytes + 2 * rates.pixel_cache_bytes
    seconds = passes * rates.forward_seconds + rates.decode_seconds
    return judged(audit.folder, START_S + seconds, memory, outputs + rates.pixel_cache_bytes)


def cache_bytes(audit: Audit, scope: str, rates: Rates) -> int:
    """Return the size of a scope's cache on disk."""
    activations = {"head": rates.head_cache_bytes, "tail": rates.tail_cache_bytes}.get(scope) or 0
    return activations + len(audit.train) * FLOAT_BYTES * (len(audit.classes) + 1)


def passes_of_fitting(method: Method, n_rows: int) -> float:
    """Return how many passes over all rows the fit of a curvature takes."""
    factors = PASSES_OF_FACTORS[method.scope] * min(1.0, FACTOR_ROWS / n_rows)
    match method.curvature:
        case "ekfac" | "cg":
            return factors
        case "subspace":
            return factors + PASSES_OF_BLOCK
        case "diagonal":
            return PASSES_OF_DIAGONAL
    return PASSES_OF_EXACT[method.scope == "head"]


def curvature_bytes(audit: Audit, method: Method) -> int:
    """Return about how large a fitted curvature is."""
    shapes = _moved(audit, method.scope)
    numbers = sum(rows * columns for rows, columns in shapes)
    if method.scope == "head" and numbers <= MOST_PARAMETERS:
        return FLOAT_BYTES * numbers**2
    factors = sum(rows**2 + columns**2 + rows * columns for rows, columns in shapes)
    match method.curvature:
        case "diagonal":
            return FLOAT_BYTES * numbers
        case "fisher":
            return FLOAT_BYTES * (len(audit.train) * numbers if method.scope != "head" else factors)
        case "subspace":
            return FLOAT_BYTES * (factors + min(method.rank, numbers) ** 2)
    return FLOAT_BYTES * factors


def is_fitted(audit: Audit, scope: str, method: Method) -> bool:
    """Say whether a curvature of this kind lies on disk; opens no model."""
    wanted = {"scope": scope, "step": "ekfac" if method.curvature == "cg" else method.curvature}
    for manifest in (audit.project.audit_dir / "caches").glob(f"curvature-*/{MANIFEST}"):
        found = read_json(manifest)
        if not isinstance(found, dict) or not (manifest.parent / f"{FITTED}.safetensors").is_file():
            continue
        options, prints = found.get("options"), found.get("fingerprints")
        same = isinstance(options, dict) and wanted.items() <= options.items()
        if same and prints == {"model": audit.model.fingerprint, "train": audit.train.fingerprint}:
            return True
    return False


def _moved(audit: Audit, scope: str) -> list[tuple[int, int]]:
    """Return rows and columns of every weight that a scope's step moves."""
    names = {"head": (audit.model.head or "",), "tail": audit.model.tail or ()}.get(scope, ("",))
    found = []
    for name, value in audit.model.module.named_parameters():
        if value.ndim > 1 and any(not part or name.startswith(f"{part}.") for part in names):
            found.append((value.shape[0], value.numel() // value.shape[0] + 1))  # with its bias
    return found
