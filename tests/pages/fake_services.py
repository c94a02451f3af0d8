"""A stand-in for the services, for tests of the screens: real digits, a nearest-mean model, similarity as score."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from forwardinf_core.audits.records import (
    Attribution,
    CacheState,
    MethodInfo,
    MethodReport,
    Prediction,
    TestPredictions,
    WorkState,
)
from forwardinf_core.errors import AuditError, DataError
from forwardinf_core.influence.scores import ScoreTable

N_TRAIN, N_TEST, N_WRONG = 600, 240, 20
HOSTILE = ("<script>alert(1)</script>", "**bold** :red[x]", "[link](http://example.org)", "$x^2$", "a\nb", "'\"&")


@cache
def digits() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    return data.data[order] / 16.0, data.target[order].astype(np.int64)


class FakeAudit:
    """Answers like the real service, from 840 digits, in microseconds."""

    project_name = "digits"
    folder = Path("/nowhere/digits")
    origin = "Handwritten digits bundled with scikit-learn."
    task = "image-classification"
    content = "image"

    def __init__(self, *, classes: tuple[str, ...] = tuple("0123456789"), tail_polls: int = 0) -> None:
        features, labels = digits()
        self.classes = classes
        self._train, self._test = features[:N_TRAIN], features[N_TRAIN : N_TRAIN + N_TEST]
        self.train_labels = labels[:N_TRAIN].copy()
        self._planted = np.random.default_rng(1).choice(N_TRAIN, N_WRONG, replace=False)
        self.train_labels[self._planted] = (self.train_labels[self._planted] + 3) % 10
        self._test_labels = labels[N_TRAIN : N_TRAIN + N_TEST]
        self.train_ids = tuple(f"train-{i:04d}" for i in range(N_TRAIN))
        self.test_ids = tuple(f"test-{i:04d}" for i in range(N_TEST))
        self._means = np.stack([self._train[self.train_labels == code].mean(0) for code in range(10)])
        self._uploads: dict[str, bytes] = {}
        self._polls_left = tail_polls
        self.fault: Exception | None = None
        self.work_fault: AuditError | None = None

    def make_right(self) -> None:
        """Let every label be what the model says."""
        self._test_labels = self.predictions().prediction

    def methods(self) -> list[MethodInfo]:
        return [
            MethodInfo(
                "head", "Head: at once", "Moves only the last layer. Answers in milliseconds.", "head", True, ""
            ),
            MethodInfo("tail", "Tail: refined", "Moves the last block too. Takes seconds.", "tail", True, ""),
            MethodInfo("full", "Whole network", "Moves every layer.", "full", False, "the fake has one layer"),
        ]

    def _probabilities(self, x: NDArray[np.float64]) -> NDArray[np.float32]:
        logits = -((x[:, None] - self._means[None]) ** 2).sum(-1) * 0.9
        weights = np.exp(logits - logits.max(1, keepdims=True))
        return (weights / weights.sum(1, keepdims=True)).astype(np.float32)

    def predictions(self) -> TestPredictions:
        if self.fault is not None:
            raise self.fault
        p = self._probabilities(self._test)
        rows = np.arange(N_TEST)
        loss = -np.log(p[rows, self._test_labels] + 1e-9)
        return TestPredictions(p.argmax(1).astype(np.int64), p.max(1), self._test_labels, loss.astype(np.float32))

    def _pixels(self, query: str) -> tuple[NDArray[np.float64], int]:
        kind, _, name = query.partition(":")
        if kind == "test" and name in self.test_ids:
            position = self.test_ids.index(name)
            return self._test[position], int(self._test_labels[position])
        if kind == "upload" and name in self._uploads:
            image = Image.open(io.BytesIO(self._uploads[name])).convert("L").resize((8, 8))
            return np.asarray(image, dtype=float).ravel() / 255, -1
        raise DataError(f"There is no test row ‘{name}’.", hint="Near ids: test-0001, test-0002.")

    def predict(self, query: str) -> Prediction:
        x, label = self._pixels(query)
        p = self._probabilities(x[None])[0]
        return Prediction(p, int(p.argmax()), float(p.max()), label)

    def attribute(self, query: str, *, method: str = "head", target: int | None = None) -> Attribution:
        if self.fault is not None:
            raise self.fault
        x, _ = self._pixels(query)
        said = self.predict(query)
        asked = said.prediction if target is None else target
        alike = np.exp(-((self._train - x) ** 2).sum(1) / (4 if method == "head" else 3))
        sign = np.where(self.train_labels == asked, 1.0, -0.4 * (self.train_labels == said.label) - 0.05)
        p = self._probabilities(self._train)
        loss = -np.log(p[np.arange(N_TRAIN), self.train_labels] + 1e-9)
        table = ScoreTable((alike * sign).astype(np.float32), loss.astype(np.float32), method)
        before = float(-np.log(said.probabilities[asked] + 1e-9))
        report = MethodReport(
            method, method, {"direction": "ascent", "damping": 1e-3, "rise": 0.1}, before, before + 0.1
        )
        seconds = {"step": 0.004, "pass": 0.011, "scores": 0.002}
        return Attribution(f"run-{query}", query, said, asked, report, table, 0.0, N_TRAIN, seconds)

    def attribute_job(self, query: str, method: str, target: int | None) -> str | None:
        return f"job-{query}-{method}-{target}" if self._polls_left > 0 else None

    def progress(self, job: str) -> WorkState:
        if self.work_fault is not None:
            return WorkState(False, 0.4, "", fault=self.work_fault)
        self._polls_left -= 1
        done = self._polls_left <= 0
        return WorkState(done, 1.0 if done else 0.4, "Scoring the training rows")

    def stop(self, job: str) -> None:
        self._polls_left = 0

    def candidate_scores(self, attribution: Attribution, position: int) -> NDArray[np.float32]:
        size = abs(float(attribution.scores.score[position]))
        scores = np.full(10, -0.3 * size, dtype=np.float32)
        scores[attribution.target] = size
        scores[self.train_labels[position]] = attribution.scores.score[position]
        return scores

    def planted(self, position: int) -> str:
        return "Planted wrong label" if position in self._planted else ""

    def planted_truth(self) -> tuple[str, ...]:
        return (f"{N_WRONG} training rows carry a wrong label.",)

    def caches(self) -> tuple[CacheState, ...]:
        return (CacheState("head", True, 4_200_000), CacheState("tail", False, 0))

    def add_upload(self, data: bytes, name: str) -> str:
        try:
            Image.open(io.BytesIO(data)).verify()
        except Exception as error:
            raise DataError(f"{name} is not an image that can be read.", hint="PNG, JPEG and WebP can.") from error
        key = f"u{len(self._uploads)}"
        self._uploads[key] = data
        return f"upload:{key}"

    def notes(self, query: str) -> tuple[str, ...]:
        return ("Of an animation, the first picture is used.",) if query.startswith("upload:") else ()

    def shown(self, query: str) -> bytes:
        return _png(self._pixels(query)[0])

    def thumbnail(self, split: str, key: str) -> tuple[bytes, str]:
        return _png((self._train if split == "train" else self._test)[int(key)]), "image/png"


def _png(pixels: NDArray[np.float64]) -> bytes:
    out = io.BytesIO()
    Image.fromarray((pixels.reshape(8, 8) * 255).astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def open_fake(audit: FakeAudit) -> Callable[[str, Callable[[float, str], None]], FakeAudit]:
    """Return an opener for ``opening.Opening`` that hands out this audit."""

    def opener(_project_ref: str, report: Callable[[float, str], None]) -> FakeAudit:
        report(0.5, "Opening")
        return audit

    return opener
