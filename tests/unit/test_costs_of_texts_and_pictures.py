"""What tracing texts and pictures is said to cost, against what it did cost; and what a training says beforehand."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from forwardinf_core.audits.costs import START_S
from forwardinf_core.audits.fitting import FitOptions
from forwardinf_core.audits.generation import costs as of_pictures
from forwardinf_core.audits.generation.methods import method_named
from forwardinf_core.audits.generation.opening import open_generation_audit
from forwardinf_core.audits.generation.painting import Wish
from forwardinf_core.audits.generation.tracing import GenerationAudit, TraceOptions
from forwardinf_core.audits.tracing import costs as of_texts
from forwardinf_core.audits.tracing import memorization
from forwardinf_core.audits.tracing.audit import TracingAudit
from forwardinf_core.audits.tracing.opening import TraceOptions as TextOptions
from forwardinf_core.audits.tracing.opening import load_tracing
from forwardinf_core.cli import main
from forwardinf_core.jobs import run
from forwardinf_core.jobs.forecast import Forecast
from forwardinf_core.store.files import allocated_bytes
from tests.pages.small_painter import make_painter
from tests.unit.language_cases import TEXTS, write_model

TIME_FACTOR, DISK_FACTOR = 3.0, 2.0  # either way; time of the processor, on one thread
N_TEXTS = 1_500


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    threads = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> TracingAudit:
    """Return an untrained model with many texts: what work costs does not depend on what it learned."""
    folder = tmp_path_factory.mktemp("corpus")
    write_model(folder / "model", context=48)
    texts = [f"{TEXTS[number % len(TEXTS)]} {TEXTS[number % 5]} {number}" for number in range(N_TEXTS)]
    pd.DataFrame({"id": [str(number) for number in range(N_TEXTS)], "text": texts}).to_parquet(folder / "train.parquet")
    source = {"kind": "parquet", "path": "train.parquet", "id": "id", "text": "text"}
    model = {"kind": "transformers", "path": "model"}
    (folder / "project.yaml").write_text(
        yaml.safe_dump({"name": "corpus", "task": "causal-lm", "model": model, "train": source})
    )
    return load_tracing(folder)


@pytest.fixture(scope="module")
def painter(tmp_path_factory: pytest.TempPathFactory) -> GenerationAudit:
    return open_generation_audit(make_painter(tmp_path_factory.mktemp("painter"), epochs=1))


def cost_and_truth(folder: Path, cost: Forecast, kind: str, options: object) -> tuple[float, float]:
    """Do the work; return by how much time and disk were overestimated, as factors."""
    kept = folder / ".audit"
    before, began = allocated_bytes(kept) if kept.exists() else 0, time.process_time()
    run.run_here(kind, folder, options)
    took, grown = time.process_time() - began, allocated_bytes(kept) - before
    assert cost.seconds is not None
    return cost.seconds / (START_S + took), cost.disk_bytes / max(grown, 1)


def within(factor: float, limit: float) -> bool:
    return 1 / limit < factor < limit


def test_tracing_takes_about_what_was_said(corpus: TracingAudit) -> None:
    rates = of_texts.dry_run_of(corpus).measure()
    method = corpus.method()
    for prompt in ("Paris is", "The capital"):
        cost = of_texts.of_question(corpus, method, rates)
        options = TextOptions(corpus.question(corpus.say(prompt, " of France")), method)
        seconds, disk = cost_and_truth(corpus.folder, cost, "trace", options)
        assert within(seconds, TIME_FACTOR), (prompt, seconds)
        assert within(disk, DISK_FACTOR), (prompt, disk, cost)
    chosen = memorization.options_of()
    cost = of_texts.of_memorization(corpus, chosen, rates)
    seconds, _ = cost_and_truth(corpus.folder, cost, memorization.KIND, chosen)
    assert within(seconds, TIME_FACTOR), seconds


def test_a_further_question_costs_less(corpus: TracingAudit) -> None:
    rates = of_texts.Rates(N_TEXTS, 0, 60_000, 1.0, 30.0, 16, 320)
    method, other = corpus.method(), corpus.method("mlps-diagonal")
    first = of_texts.of_question(corpus, other, rates)
    corpus.place.prepare(method)
    ready = of_texts.of_question(corpus, method, rates)
    assert first.seconds is not None
    assert ready.seconds is not None
    assert ready.seconds < first.seconds / 2


def test_tracing_a_picture_takes_about_what_was_said(painter: GenerationAudit) -> None:
    rates = of_pictures.dry_run_of(painter).measure()
    for name in ("ekfac", "sgd", "unlearn"):
        method = method_named(name, query_draws=20)
        cost = of_pictures.of_trace(painter, method, rates)
        options = TraceOptions((("train:train-3", 1),), method)
        seconds, disk = cost_and_truth(painter.folder, cost, "generation", options)
        assert within(seconds, TIME_FACTOR), (name, seconds)
        assert within(disk, 10 * DISK_FACTOR), (name, disk, cost)  # 24 small images: a file's least size counts
    cost = of_pictures.of_painting(painter, 30, 1.0, rates)
    seconds, _ = cost_and_truth(painter.folder, cost, "generate", Wish("left", 5, 30, 1.0))
    assert within(seconds, TIME_FACTOR), seconds


def test_check_tells_the_costs_of_texts_and_pictures(
    corpus: TracingAudit, painter: GenerationAudit, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, work in ((corpus.folder, "memorization"), (painter.folder, "generate")):
        assert main(["check", str(folder), "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["is_ready"]
        assert told["costs"][work]["seconds"] > 0
    assert main(["check", str(painter.folder)]) == 0
    assert "24 images" in capsys.readouterr().out


def test_check_names_a_picture_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_painter(tmp_path, epochs=1)
    rows = pd.read_parquet(folder / "train.parquet")
    rows.at[3, "image"] = b"no picture"  # bytes are one value
    rows.to_parquet(folder / "train.parquet")
    assert main(["check", str(folder)]) == 2
    assert "train-3" in capsys.readouterr().out


def test_a_training_says_what_it_will_cost_and_ends_in_the_same_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_painter(tmp_path, epochs=2)
    before = (folder / "model" / "model.safetensors").read_bytes()
    said: list[str] = []
    with torch.backends.mkldnn.flags(enabled=False):
        run.run_here("fit", folder, FitOptions(epochs=2, width=8), log=said.append)
    assert (folder / "model" / "model.safetensors").read_bytes() == before
    assert said[0].startswith("Training for 2 epochs. It will take about")
    assert main(["fit", str(folder), "--epochs", "1", "--width", "8"]) == 0
    told = capsys.readouterr()
    assert "Trained: " in told.out
    assert "It will take about" in told.err
