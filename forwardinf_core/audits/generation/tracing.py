"""An open diffusion project: generate a picture, and ask which training images made it.

Answers are runs: asked again about the same model, rows, picture and options, they are read back.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from forwardinf_core.audits.context import AtOnce, Context
from forwardinf_core.audits.generation.methods import Method
from forwardinf_core.audits.generation.pictures import IMAGE, Pictures
from forwardinf_core.audits.generation.place import Opened, Place
from forwardinf_core.audits.generation.records import Generation, Picture
from forwardinf_core.audits.generation.scoring import query_rows, trace
from forwardinf_core.datasets.images import THUMBNAIL_TYPE, thumbnail
from forwardinf_core.datasets.rows import ImageRows, images_of
from forwardinf_core.datasets.source import RowSource
from forwardinf_core.errors import DataError, RunNotFoundError
from forwardinf_core.influence.scores import ScoreTable
from forwardinf_core.jobs import run as jobs
from forwardinf_core.jobs.context import JobContext
from forwardinf_core.jobs.registry import job
from forwardinf_core.models.denoiser import DiffusionModel
from forwardinf_core.projects.load import Project, open_project
from forwardinf_core.store.binding import Binding, Option
from forwardinf_core.store.files import sha256
from forwardinf_core.store.runs import RunRecord, find_run, open_run, save_run

KIND = "generation"
CAPTION = "caption"  # the column of captions, where project.yaml names none
VERSION = 2  # 2: a second look at both ends

Report = Callable[[float, str], None]


@dataclass(frozen=True)
class TraceOptions:
    """Pictures to trace, each with the class or prompt it is asked about (None where the model takes none), and how."""

    queries: tuple[tuple[str, int | str | None], ...]
    method: Method


class GenerationAudit:
    """An open diffusion project, for any number of threads."""

    def __init__(self, project: Project, model: DiffusionModel, train: ImageRows, test: ImageRows) -> None:
        self.project = project
        self.model = model
        self.train = train
        self.test = test
        self.pictures = Pictures(train, test, project.audit_dir / "pictures")
        self._opened = Opened()

    @property
    def project_name(self) -> str:
        return self.project.config.name

    @property
    def task(self) -> str:
        return self.project.config.task

    @property
    def folder(self) -> Path:
        """The project's folder, as its jobs name it."""
        return self.project.root

    @property
    def classes(self) -> tuple[str, ...]:
        return self.model.classes

    @property
    def mirrors(self) -> bool:
        """Say whether the model was trained on images mirrored at random, and so is asked about both."""
        return self.project.config.model.mirrors

    @cached_property
    def prints(self) -> dict[str, str]:
        """Fingerprints of what answers are made from."""
        return self.place(AtOnce()).prints

    def name_of(self, label: int | str | None) -> str | None:
        """Return the class that a label stands for, or the prompt itself; None for none."""
        if isinstance(label, int):
            return self.classes[label] if 0 <= label < len(self.classes) else None
        return label or None

    @cached_property
    def train_ids(self) -> tuple[str, ...]:
        return tuple(self.train.ids)

    @cached_property
    def test_ids(self) -> tuple[str, ...]:
        return tuple(self.test.ids)

    def thumbnail(self, split: str, key: str) -> tuple[bytes, str]:
        """Return an encoded thumbnail of a training or test row, by position, and its media type."""
        rows = {"train": self.train, "test": self.test}[split]
        return thumbnail(rows.image(int(key))), THUMBNAIL_TYPE

    def shown(self, query: str) -> bytes:
        """Return a picture as PNG, as the model sees it."""
        if query.startswith(IMAGE) and self.pictures.made(query):
            return self.pictures.content(query)
        buffer = io.BytesIO()
        self.model.codec.decode(self.model.codec.encode([self.pictures.image(query)]))[0].save(buffer, "PNG")
        return buffer.getvalue()

    def place(self, context: Context) -> Place:
        """Return where engine work on this project happens."""
        return Place(self.model, self.train, self.project.audit_dir, context, self._opened, self.captions, self.mirrors)

    @cached_property
    def captions(self) -> tuple[tuple[str, ...], ...]:
        """What the training rows show, in words, each one or several ways; empty where the model is not told.

        Raises DataError where the model is told and there are none.
        """
        return self._captions_of(self.train, self.project.config.train) if self.model.condition == "text" else ()

    def _captions_of(self, rows: ImageRows, source: RowSource) -> tuple[tuple[str, ...], ...]:
        name = source.caption or CAPTION
        if source.caption is None and name not in rows.columns:
            raise DataError(
                "The model is told in words what to paint, and the rows have no captions.",
                hint=f"Name their column in project.yaml, train: {{caption: …}}. Columns: {', '.join(rows.columns)}.",
            )
        return tuple(_said(value) for value in rows.column(name))

    def generate(self, name: str | None, *, seed: int, steps: int = 50, guidance: float = 1.0) -> Picture:
        """Generate a picture of a class (None where the model takes none) and keep it. Same options, same picture."""
        label = self.model.label_of(name)
        image = self.model.generate(label, count=1, seed=seed, steps=steps, guidance=guidance)[0]
        made = {"seed": float(seed), "steps": float(steps), "guidance": guidance}
        return Picture(self.pictures.keep(image, made), label, made)

    def picture(self, query: str, name: str | None = None) -> Picture:
        """Return a picture with the class it is asked about: the one named, else its own where it is a row."""
        if name is None and self.model.condition == "class":
            own = self.pictures.label(query)
            if own >= 0:
                return Picture(query, own, {})
        split, _, key = query.partition(":")
        if name is None and self.model.condition == "text" and split in ("train", "test"):
            rows, source = (
                (self.train, self.project.config.train) if split == "train" else (self.test, self.project.config.test)
            )
            return Picture(query, self._captions_of(rows, source)[rows.position(key)][0], {})
        self.pictures.image(query)
        return Picture(query, self.model.label_of(name), self.pictures.made(query))

    def trace(self, pictures: Sequence[Picture], method: Method, report: Report | None = None) -> list[Generation]:
        """Return the answers, read back where they are stored, else computed here and now."""
        if any(self._stored(one, method) is None for one in pictures):

            def on_report(done: float, total: float, note: str) -> None:
                if report is not None:
                    report(done / total if total else 0.0, note)

            jobs.run_here(KIND, self.project.root, _options(pictures, method), on_report)
        found = [self._stored(one, method) for one in pictures]
        return [
            self._opened_run(one, record) for one, record in zip(pictures, found, strict=True) if record is not None
        ]

    def trace_job(self, picture: Picture, method: Method) -> int | None:
        """Start the work on an answer in the worker and return the job's id; None where the answer is stored."""
        if self._stored(picture, method) is not None:
            return None
        return jobs.submit(KIND, self.project.root, _options([picture], method))

    def stored(self, picture: Picture, method: Method) -> Generation | None:
        """Return the answer where it was computed before."""
        record = self._stored(picture, method)
        return None if record is None else self._opened_run(picture, record)

    def opened(self, run_id: str) -> Generation:
        """Return a finished answer by the id of its run, which may come from a link. Raises RunNotFoundError."""
        record = open_run(self.project, run_id)
        if record.kind != KIND:
            raise RunNotFoundError(f"The run {record.id} is no trace of a picture.", hint="Its kind is in its name.")
        query, label = record.options["query"], record.options["label"]
        picture = Picture(str(query), cast("int | str | None", label), self.pictures.made(str(query)))
        return self._opened_run(picture, record)

    def answer(self, picture: Picture, method: Method, context: Context) -> RunRecord:
        """Return the run of an answer, computed where it is not stored."""
        stored = self._stored(picture, method)
        if stored is not None:
            return stored
        begun = time.perf_counter()
        place = self.place(context)
        sample = self.model.codec.encode([self.pictures.image(picture.query)])
        pixel, feature = similarities(place, sample, picture.label)
        shortlist = _nearest(feature, method.shortlist)
        query = query_rows(place, sample, picture.label, sha256(sample.numpy().tobytes()), method)
        found = trace(place, query, method, shortlist)
        frame = {
            "id": self.train_ids,
            "score": found.score if shortlist is None else feature,
            "base_loss": found.base_loss,
            "pixel": pixel,
            "feature": feature,
        }
        if shortlist is not None:
            frame["score_full"] = found.score
        return save_run(
            self.project,
            KIND,
            self._binding(picture, method).key(),
            options={"query": picture.query, "label": picture.label, **method.options()},
            summary={
                "loss_before": found.loss_before,
                "loss_after": found.loss_after,
                "unchanged_max_abs_score": found.control,
                "made": dict(picture.made),
                "mirrors": place.mirrors,
                "seconds": time.perf_counter() - begun,
            },
            frames={"scores": pd.DataFrame(frame)},
            tensors={
                "draws": {
                    "change": torch.from_numpy(found.by_draw),
                    "timestep": torch.from_numpy(found.timesteps),
                }
            },
        )

    def _binding(self, picture: Picture, method: Method) -> Binding:
        image = self.pictures.image(picture.query)
        content = sha256(f"{image.mode}{image.size}".encode() + image.tobytes())
        prints = {**self.prints, "picture": content}
        return Binding(KIND, prints, {"query": picture.query, "label": picture.label, **method.options()}, VERSION)

    def _stored(self, picture: Picture, method: Method) -> RunRecord | None:
        return find_run(self.project, KIND, self._binding(picture, method).key())

    def _opened_run(self, picture: Picture, record: RunRecord) -> Generation:
        frame, said, draws = record.frame("scores"), record.summary, record.tensors("draws")
        full = frame["score_full"].to_numpy(np.float32) if "score_full" in frame else None
        options = {name: value for name, value in record.options.items() if name not in ("query", "label")}
        table = ScoreTable(
            frame["score"].to_numpy(np.float32),
            frame["base_loss"].to_numpy(np.float32),
            "full" if full is None else "cascade",
            full,
        )
        return Generation(
            run_id=record.id,
            picture=picture,
            options=cast("dict[str, str | int | float | bool | None]", options),
            scores=table,
            by_draw=draws["change"].numpy(),
            timesteps=draws["timestep"].numpy(),
            pixel=frame["pixel"].to_numpy(np.float32),
            feature=frame["feature"].to_numpy(np.float32),
            loss_before=cast("float", said["loss_before"]),
            loss_after=cast("float", said["loss_after"]),
            unchanged_max_abs_score=cast("float", said["unchanged_max_abs_score"]),
            seconds=cast("float", said["seconds"]),
        )


def similarities(
    place: Place, sample: Tensor, label: int | str | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return how alike every training image is to a picture, by pixels (minus distance) and by features (cosine)."""
    pixel = -torch.cdist(sample.flatten(1), place.samples.flatten(1))[0]
    features = place.features()
    centre = features.mean(0)
    own = place.features_of(sample, {} if label is None else place.model.conditions([label])) - centre
    feature = torch.nn.functional.cosine_similarity(features - centre, own)
    return pixel.numpy().astype(np.float32), feature.numpy().astype(np.float32)


def group_sums(scores: NDArray[np.float32], groups: Sequence[str]) -> dict[str, float]:
    """Return the summed score of each group (class, artist, source), the most helpful first."""
    totals: dict[str, float] = {}
    for name, score in zip(groups, scores.tolist(), strict=True):
        totals[name] = totals.get(name, 0.0) + score
    return dict(sorted(totals.items(), key=lambda item: -item[1]))


def _said(value: object) -> tuple[str, ...]:
    """Return the captions of a row: a cell holds one, or a list of several; without any it is the empty one."""
    each = value if isinstance(value, (list, tuple, np.ndarray)) else [value]
    return tuple(str(one) for one in each if one is not None) or ("",)


def _nearest(feature: NDArray[np.float32], share: float | None) -> NDArray[np.int64] | None:
    """Return, in order, the positions of the share of rows that are most alike; None for all rows."""
    if share is None:
        return None
    count = max(round(share * len(feature)), 1)
    return np.sort(np.argsort(-feature, kind="stable")[:count]).astype(np.int64)


def _options(pictures: Sequence[Picture], method: Method) -> TraceOptions:
    return TraceOptions(tuple((one.query, one.label) for one in pictures), method)


def fingerprints_of(project: Path, _options: object) -> Mapping[str, str]:
    """Return what a trace of this project reads."""
    return load_generation_audit(project).prints


@job(KIND, version=VERSION, fingerprints=fingerprints_of)
def trace_pictures(context: JobContext, options: TraceOptions) -> dict[str, Option]:
    """Trace pictures, making caches and curvature first where they are missing. Returns the ids of the runs."""
    audit = load_generation_audit(context.project)
    runs = []
    for query, label in options.queries:
        picture = Picture(query, label, audit.pictures.made(query))
        runs.append(audit.answer(picture, options.method, context).id)
    return {"runs": list(runs)}


_LOADED: dict[Path, tuple[str, GenerationAudit]] = {}
_LOADING = threading.Lock()


def load_generation_audit(project_ref: str | Path) -> GenerationAudit:
    """Return the open project; the same one again in this process while none of its files change."""
    from forwardinf_core.audits.opening import stamp_of

    project = open_project(project_ref)
    if project.config.task != "diffusion":
        raise DataError(
            f"This project's task is {project.config.task}.", hint="Generated images are traced in diffusion projects."
        )
    stamp = stamp_of(project)
    with _LOADING:
        known = _LOADED.get(project.root)
        if known is not None and known[0] == stamp:
            return known[1]
        model = project.load_diffusion_model()
        classes = model.classes or None
        audit = GenerationAudit(
            project, model, images_of(project.train_rows(classes)), images_of(project.test_rows(classes))
        )
        _LOADED[project.root] = (stamp, audit)
        return audit


__all__ = ["AtOnce", "GenerationAudit", "group_sums", "load_generation_audit", "similarities"]
