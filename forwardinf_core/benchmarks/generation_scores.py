"""Scores of training images for a picture, by every method and by what needs no influence, kept as they are made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from forwardinf_core.audits.generation.methods import METHODS, Method, method_named
from forwardinf_core.audits.generation.place import Opened, Place
from forwardinf_core.audits.generation.scoring import Traced, query_rows, trace
from forwardinf_core.audits.generation.tracing import similarities
from forwardinf_core.benchmarks.generation_figures import Floats
from forwardinf_core.datasets.rows import ImageRows
from forwardinf_core.errors import AuditError, DataError
from forwardinf_core.jobs.context import JobContext
from forwardinf_core.models.denoiser import DiffusionModel
from forwardinf_core.store.binding import Binding
from forwardinf_core.store.chunks import ChunkStore
from forwardinf_core.store.files import sha256

PIXEL, FEATURE, RANDOM = "pixel", "feature", "random"
BASELINES = (PIXEL, FEATURE, RANDOM)
Report = Callable[[float, str], None]


@dataclass(frozen=True)
class Query:
    """A picture to trace, (1, c, h, w) as the denoiser takes it, and the class it is asked about."""

    sample: Tensor
    label: int

    @property
    def key(self) -> str:
        """Return what the app seeds the query's draws with."""
        return sha256(self.sample.numpy().tobytes())


@dataclass(frozen=True)
class Scene:
    """A trained model, the rows it was trained on, and the folder in which caches and scores are kept."""

    model: DiffusionModel
    rows: ImageRows
    folder: Path
    opened: Opened = field(default_factory=Opened)

    def place(self, work: Path) -> Place:
        """Return where tracing happens; ``work`` holds what one question leaves unfinished."""
        context = JobContext(self.folder, ChunkStore(work, Binding("bench-work")), {}, on_report=lambda _progress: None)
        return Place(self.model, self.rows, self.folder, context, self.opened)

    def scores(self, query: Query, method: Method) -> Floats:
        """Return a method's score of every training row (n,), read back where it was computed before."""
        store, key = self._store(), _key(query, method)
        kept = store.get(key)
        if kept is None:
            found = self.traced(query, method)
            if found.control != 0:
                raise AuditError(f"The unchanged model scored {found.control} and not 0.")
            kept = {"score": torch.from_numpy(found.score)}
            store.put(key, kept)
        return kept["score"].double().numpy()

    def traced(self, query: Query, method: Method) -> Traced:
        """Trace a picture here and now, as the app does."""
        work = self.folder / "work" / _key(query, method)
        place = self.place(work)
        shortlist = None
        if method.shortlist is not None:
            nearest = np.argsort(-similarities(place, query.sample, query.label)[1], kind="stable")
            shortlist = np.sort(nearest[: max(round(method.shortlist * len(self.rows)), 1)]).astype(np.int64)
        batch = query_rows(place, query.sample, query.label, query.key, method)
        found = trace(place, batch, method, shortlist)
        shutil.rmtree(work, ignore_errors=True)
        return found

    def baselines(self, query: Query) -> dict[str, Floats]:
        """Return likeness by pixels and by the model's own features, and random numbers that belong to the picture."""
        store, key = self._store(), f"likeness-{query.key[:32]}"
        kept = store.get(key)
        if kept is None:
            pixel, feature = similarities(self.place(self.folder / "work" / key), query.sample, query.label)
            shutil.rmtree(self.folder / "work" / key, ignore_errors=True)
            kept = {PIXEL: torch.from_numpy(pixel), FEATURE: torch.from_numpy(feature)}
            store.put(key, kept)
        random = np.random.default_rng(int(query.key[:15], 16)).random(len(self.rows))
        return {PIXEL: kept[PIXEL].double().numpy(), FEATURE: kept[FEATURE].double().numpy(), RANDOM: random}

    def all_scores(
        self, queries: Sequence[Query], methods: dict[str, Method], report: Report
    ) -> dict[str, list[Floats]]:
        """Return the scores of every baseline and method by name, one a query."""
        found: dict[str, list[Floats]] = {name: [] for name in (*BASELINES, *methods)}
        total, done = len(queries) * len(methods), 0
        for query in queries:
            for name, values in self.baselines(query).items():
                found[name].append(values)
            for name, method in methods.items():
                found[name].append(self.scores(query, method))
                done += 1
                report(done / total, f"{done} of {total} pictures traced")
        return found

    def _store(self) -> ChunkStore:
        prints = {"model": self.model.fingerprint, "train": self.rows.fingerprint}
        return ChunkStore(self.folder / "scores", Binding("bench-generation-scores", prints))


def _key(query: Query, method: Method) -> str:
    options = sha256(json.dumps(method.options(), sort_keys=True).encode())[:16]
    return f"{method.name}-{options}-{query.key[:32]}"


def methods_asked(given: Sequence[str] | None) -> dict[str, Method]:
    """Return methods by how they were asked for, ``NAME`` or ``NAME:OPTION=VALUE,…``; all of them without any."""
    return {text: _method(text) for text in given or list(METHODS)}


def _method(text: str) -> Method:
    name, _, options = text.partition(":")
    types = {one.name: one.type for one in fields(Method)}
    changes: dict[str, object] = {}
    for option in filter(None, options.split(",")):
        key, _, value = option.partition("=")
        if key not in types or key == "name":
            raise DataError(f"A method has no option ‘{key}’.", hint=f"Options: {', '.join(types)}.")
        kind = str(types[key])
        try:
            changes[key] = int(value) if kind == "int" else float(value) if "float" in kind else value
        except ValueError as error:
            raise DataError(f"‘{value}’ is no value of {key}.", hint=f"{key} is a number.") from error
    return method_named(name, **changes)
