"""The curvature of a scope, fitted once per model and training set and kept on disk; a killed fit goes on where it was.

A fit is one to three reads of the rows (influence/curvature). Its state is saved every few batches as a chunk of the
job that runs it; the result lies beside the scope's cache.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import torch

from forwardinf_core.audits import scopes
from forwardinf_core.audits.context import Context
from forwardinf_core.audits.methods import Method
from forwardinf_core.audits.scopes import BATCH, Scope
from forwardinf_core.datasets.rows import DataRows
from forwardinf_core.influence.curvature.base import Curvature
from forwardinf_core.influence.curvature.conjugate_gradient import ConjugateGradient
from forwardinf_core.influence.curvature.diagonal import DiagonalCurvature, DiagonalFit
from forwardinf_core.influence.curvature.ekfac import EigenvalueFit, EkfacCurvature, FactorFit
from forwardinf_core.influence.curvature.exact import DualCurvature, DualFit
from forwardinf_core.influence.curvature.fitting import Fit, LevelledRows, gradient_sizes, sampled_rows
from forwardinf_core.influence.curvature.head_factors import HeadConjugateGradient, HeadFactors, HeadFactorsFit
from forwardinf_core.influence.curvature.subspace import BlendedCurvature, SubspaceFit
from forwardinf_core.influence.graph import GraphNetwork, whole_graph
from forwardinf_core.influence.head import HeadFisher, HeadFisherFit, HeadNetwork, fits_dense
from forwardinf_core.influence.network import Network, Parameters, RestrictedNetwork, Rows, slices
from forwardinf_core.models.audit_model import AuditModel
from forwardinf_core.models.rows import ModelRows
from forwardinf_core.store.binding import Binding
from forwardinf_core.store.chunks import ChunkStore

SAVE_EVERY = 10  # batches between two saved states: a kill loses at most this much
FACTOR_ROWS = 2_000  # rows that EK-FAC's bases are estimated from; measured in docs/method.md
FITTED = "fitted"

STAGE_WORDS = {
    "head": "the head",
    "diagonal": "squared gradients",
    "exact": "gradients of every row",
    "factors": "directions",
    "eigenvalues": "strengths",
    "block": "the strongest directions together",
}
Fitted = TypeVar("Fitted")
CURVATURES: dict[str, Callable[[Parameters], Curvature]] = {
    "diagonal": DiagonalCurvature.from_tensors,
    "ekfac": EkfacCurvature.from_tensors,
    "subspace": BlendedCurvature.from_tensors,
    "fisher": DualCurvature.from_tensors,
}


@dataclass(frozen=True)
class Workplace:
    """A model, its training rows, where caches lie, what is open already, and the job at work."""

    model: AuditModel
    train: DataRows
    audit_dir: Path
    context: Context
    opened: Opened

    def scope(self, name: str) -> Scope:
        """Return a scope, making its cache first where it is not complete."""
        with self.opened.lock:
            if name not in self.opened.scopes:
                piece = scopes.cut(self.model, name, self.graph)
                if not scopes.is_cached(self.audit_dir, self.model, self.train, name):
                    scopes.write_cache(self.audit_dir, self.model, self.train, piece, self.context)
                self.opened.scopes[name] = scopes.open_scope(self.audit_dir, self.model, self.train, piece)
            return self.opened.scopes[name]

    def graph(self) -> GraphNetwork:
        """Return the whole model as a graph, exported once."""
        with self.opened.lock:
            if self.opened.graph is None:
                example = ModelRows(self.model, self.train).batch(0, 2)
                self.opened.graph = whole_graph(self.model.module, self.model.objective, example)
            return self.opened.graph

    def curvature(self, scope: Scope, method: Method) -> Curvature | None:
        """Return the curvature a method needs, fitting it first where it is not on disk; None where it needs none."""
        if method.curvature is None:
            return None
        key = f"{scope.name} {method.curvature} {method.rank} {method.iterations} {method.parameters}"
        with self.opened.lock:
            if key not in self.opened.curvatures:
                self.opened.curvatures[key] = ensure_curvature(self, scope, method)
            return self.opened.curvatures[key]

    def is_fitted(self, scope: Scope, method: Method) -> bool:
        """Say whether the curvature of a method is on disk, or none is needed."""
        if method.curvature in (None, "cg"):
            return method.curvature is None
        return (curvature_folder(self, scope, method) / f"{FITTED}.safetensors").is_file()


@dataclass(frozen=True)
class PrepareOptions:
    """Scopes whose cache is wanted, and methods whose curvature is."""

    scopes: tuple[str, ...] = ()
    methods: tuple[Method, ...] = ()


@dataclass
class Opened:
    """Scopes and curvatures a process has open, shared by its threads."""

    scopes: dict[str, Scope] = field(default_factory=dict)
    curvatures: dict[str, Curvature] = field(default_factory=dict)
    graph: GraphNetwork | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)


def ensure_curvature(place: Workplace, scope: Scope, method: Method) -> Curvature:
    """Return the curvature a method needs, from disk or fitted now."""
    if method.curvature == "cg":
        preconditioner = ensure_curvature(place, scope, replace(method, step="ekfac"))
        return ConjugateGradient(
            _graph(place, scope),
            scope.rows,
            mean_squared_norm=preconditioner.mean_squared_norm,
            iterations=method.iterations,
            batch_size=BATCH,
            preconditioner=preconditioner,
        )
    store = ChunkStore(curvature_folder(place, scope, method), curvature_binding(place, scope, method))
    kept = store.get(FITTED)
    if kept is None:
        kept = _fit(place, scope, method).tensors()
        store.put(FITTED, kept)
    return _rebuilt(scope, method, kept)


def curvature_folder(place: Workplace, scope: Scope, method: Method) -> Path:
    """Return where a fitted curvature is kept."""
    return place.audit_dir / "caches" / f"curvature-{curvature_binding(place, scope, method).key()[:16]}"


def curvature_binding(place: Workplace, scope: Scope, method: Method) -> Binding:
    """Return what a fitted curvature is made from."""
    is_subspace = method.curvature == "subspace"
    part = ",".join(scope.network.parameters) if scope.name != "full" or method.parameters else None
    return scopes.binding(
        "curvature",
        place.model,
        place.train,
        scope=scope.name,
        step=method.curvature,
        rank=method.rank if is_subspace else None,
        is_blended=is_subspace,
        factor_rows=FACTOR_ROWS,
        part=part,
    )


def _fit(place: Workplace, scope: Scope, method: Method) -> Curvature:
    """Fit the curvature of a method, every stage from its last saved state."""
    # A job may fit several curvatures, of other scopes or checkpoints: each has chunks of its own.
    prefix = curvature_binding(place, scope, method).key()[:12]
    if isinstance(scope.network, HeadNetwork):
        if fits_dense(scope.network):
            return _run(place, prefix, "head", HeadFisherFit(scope.network), scope.rows)
        return _run(place, prefix, "head", HeadFactorsFit(scope.network), scope.rows)
    match method.curvature:
        case "diagonal":
            return _run(place, prefix, "diagonal", DiagonalFit(_vectorised(place, scope)), scope.rows)
        case "fisher":
            return _run(place, prefix, "exact", DualFit(scope.network, len(scope.rows)), scope.rows)
    graph, rows = _graph(place, scope), scope.rows
    sample = rows
    if len(rows) > FACTOR_ROWS or method.curvature == "subspace":
        sizes = place.context.halve_on_out_of_memory(lambda size: gradient_sizes(graph, scope.rows, size), BATCH)
        rows = LevelledRows(rows, sizes) if method.curvature == "subspace" else rows
        sample = sampled_rows(rows, sizes, FACTOR_ROWS, seed=0)
    bases = _run(place, prefix, "factors", FactorFit(graph), sample)
    ekfac = _run(place, prefix, "eigenvalues", EigenvalueFit(graph, bases), sample)
    if method.curvature == "ekfac":
        return ekfac
    return BlendedCurvature(_run(place, prefix, "block", SubspaceFit(graph, ekfac, k=method.rank), rows))


def _rebuilt(scope: Scope, method: Method, tensors: Parameters) -> Curvature:
    if isinstance(scope.network, HeadNetwork):
        if fits_dense(scope.network):
            return HeadFisher.from_tensors(tensors)
        factors = HeadFactors.from_tensors(tensors)
        return HeadConjugateGradient(scope.network, scope.rows, scope.base_outputs, preconditioner=factors)
    assert method.curvature is not None
    return CURVATURES[method.curvature](tensors)


def _run(place: Workplace, prefix: str, stage: str, fit: Fit[Fitted], rows: Rows) -> Fitted:
    """Run one read of the rows from its last saved state; bit-equal whether it was interrupted or not.

    Where memory runs out it goes back to that state, for a batch may have been added in part, and on in smaller pieces.
    """
    return place.context.halve_on_out_of_memory(lambda size: _read(place, prefix, stage, fit, rows, size), BATCH)


def _read(place: Workplace, prefix: str, stage: str, fit: Fit[Fitted], rows: Rows, piece: int) -> Fitted:
    chunks, batches = place.context.chunks, list(slices(len(rows), BATCH))
    name = f"{prefix}-{stage}-"
    state, first = fit.start(), 0
    for key in sorted((key for key in chunks.keys() if key.startswith(name)), reverse=True):  # noqa: SIM118
        kept = chunks.get(key)
        if kept is not None:
            state, first = kept, int(key.rsplit("-", 1)[1])
            break
    with torch.no_grad():
        for number in range(first, len(batches)):
            first_row, end = batches[number]
            for start, stop in slices(end - first_row, piece):
                state = fit.accumulate(state, rows.batch(first_row + start, first_row + stop))
            if (number + 1) % SAVE_EVERY == 0 or number + 1 == len(batches):
                chunks.put(f"{name}{number + 1:08d}", state)
            place.context.report(number + 1, len(batches), f"Fitting the curvature: {STAGE_WORDS[stage]}")
    return fit.finish(state)


def _vectorised(place: Workplace, scope: Scope) -> Network:
    """Return the network to take the gradient of every row by itself of.

    Text encoders look at the values of their mask, which cannot be done for many rows at once; their graph does not.
    """
    if scope.name != "full" or place.model.content != "text":
        return scope.network
    return RestrictedNetwork(place.graph(), list(scope.network.parameters))


def _graph(place: Workplace, scope: Scope) -> GraphNetwork:
    return scope.network if isinstance(scope.network, GraphNetwork) else place.graph()
