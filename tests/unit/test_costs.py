"""What long work is said to cost, against what it did cost; and what is said where it will not fit."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from forwardinf_core.audits import costs, dry_run
from forwardinf_core.audits.attribution import AttributeOptions
from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.leakage.detection import LeakageOptions
from forwardinf_core.audits.memorization.finding import MemorizationOptions
from forwardinf_core.audits.methods import method_named
from forwardinf_core.audits.mislabels.finding import FindOptions
from forwardinf_core.audits.opening import load_audit
from forwardinf_core.jobs import run
from forwardinf_core.projects.forecast import Forecast as Rates
from forwardinf_core.projects.forecast import forecast
from forwardinf_core.store.files import allocated_bytes
from forwardinf_core.verification import hypothesis_cost
from forwardinf_core.verification.hypothesis import hypothesis_now
from forwardinf_core.verification.hypothesis_records import HypothesisOptions

TIME_FACTOR = 3.0  # either way, of processor time on one thread: other work on the machine does not count
DISK_FACTOR = 2.0
MEASURED = """
import sys
from pathlib import Path
from forwardinf_core.audits.attribution import AttributeOptions
from forwardinf_core.audits import opening  # knows the jobs
from forwardinf_core.audits.methods import method_named
from forwardinf_core.jobs import run
from forwardinf_core.jobs.memory import peak_bytes, reset_peak
reset_peak()
run.run_here("attribute", Path(sys.argv[1]), AttributeOptions((sys.argv[2],), method_named(sys.argv[3])))
print(peak_bytes())
"""


@pytest.fixture(scope="module")
def fresh(digits_audit: Audit, tmp_path_factory: pytest.TempPathFactory) -> Audit:
    """Return the digits in a folder without caches."""
    folder = tmp_path_factory.mktemp("costs") / "project"
    shutil.copytree(digits_audit.folder, folder, ignore=shutil.ignore_patterns(".audit", "demo.json"))
    return load_audit(folder)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Count processor time, of one thread."""
    threads = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def cost_and_truth(audit: Audit, cost: costs.Forecast, kind: str, options: object) -> tuple[float, float]:
    """Do the work; return by how much time and disk were overestimated, as factors."""
    folder = audit.project.audit_dir
    before, began = allocated_bytes(folder) if folder.exists() else 0, time.process_time()
    run.run_here(kind, audit.folder, options)
    took, grown = time.process_time() - began, allocated_bytes(folder) - before
    assert cost.seconds is not None
    return cost.seconds / (costs.START_S + took), cost.disk_bytes / max(grown, 1)


def within(factor: float, limit: float) -> bool:
    return 1 / limit < factor < limit


def test_answers_take_about_the_time_and_the_disk_that_was_said(fresh: Audit) -> None:
    rates = forecast(fresh.model, fresh.train)
    for name, number in (("tail", 0), ("tail", 1), ("full", 0), ("cascade", 2), ("head", 3)):
        method = method_named(name)
        cost = costs.of_attribution(fresh, method, rates)
        options = AttributeOptions((f"test:{fresh.test_ids[number]}",), method)
        seconds, disk = cost_and_truth(fresh, cost, "attribute", options)
        assert within(seconds, TIME_FACTOR), (name, number, seconds)
        assert within(disk, DISK_FACTOR), (name, number, disk, cost)
    again = costs.of_attribution(fresh, method_named("tail"), rates)
    assert again.disk_bytes < 10**6  # its cache and curvature are there


@pytest.mark.parametrize(
    ("kind", "options"),
    [("memorization", MemorizationOptions()), ("leakage", LeakageOptions()), ("mislabels", FindOptions())],
)
def test_searches_take_about_the_time_and_the_disk_that_was_said(fresh: Audit, kind: str, options: object) -> None:
    fresh.attribute_all([f"test:{fresh.test_ids[4]}"], method_named("head"), None)  # the head's cache is there
    cost = costs.of_audit(fresh, kind, forecast(fresh.model, fresh.train))
    assert cost is not None
    seconds, disk = cost_and_truth(fresh, cost, kind, options)
    assert within(seconds, TIME_FACTOR), seconds
    assert within(disk, 3 * DISK_FACTOR), (disk, cost)


def test_the_dry_run_is_kept_for_this_model_and_these_rows(fresh: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    dry_run._known.clear()
    (fresh.project.audit_dir / "cost.json").unlink(missing_ok=True)
    found = costs.dry_run_of(fresh)
    assert found.measured() is None
    assert costs.of_method(fresh, "tail") is None
    rates = found.measure()
    assert found.measured() == rates
    dry_run._known.clear()  # another process
    assert found.measured() == rates
    monkeypatch.setattr(dry_run, "available_threads", lambda: 97)  # another machine
    assert found.measured() is None


def test_the_dry_run_is_made_aside_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    monkeypatch.setattr(dry_run.threading, "Thread", Held)

    def make() -> Rates:
        made.append(1)
        return Rates(1.0, 2.0, 3, 4, None, None)

    found = dry_run.DryRun(tmp_path / "new" / "cost.json", "model rows", Rates, make)
    found.measure_aside()
    found.measure_aside()
    (thread,) = Held.made
    assert made == []
    thread.target()
    assert found.measured() == Rates(1.0, 2.0, 3, 4, None, None)
    found.measure_aside()
    assert made == [1]


class Held:
    """A thread that runs when the test says so."""

    made: list[Held] = []  # noqa: RUF012  # one test looks

    def __init__(self, target: Callable[[], None], **_: object) -> None:
        self.target = target

    def start(self) -> None:
        Held.made.append(self)


def test_what_will_not_fit_is_said_with_what_is_free(fresh: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    cost = costs.of_attribution(fresh, method_named("full-ekfac"), forecast(fresh.model, fresh.train))
    assert (cost.fits, cost.warning) == (True, "")
    small = replace(cost, free_disk_bytes=1000, free_memory_bytes=10**6, disk_bytes=2000)
    assert not small.fits
    assert small.warning == (
        "It will not fit: only 1 KB of disk are free. It may not fit: only 1 MB of memory are free."
    )


@pytest.mark.parametrize("name", ["tail", "full"])
def test_answers_take_about_the_memory_that_was_said(fresh: Audit, name: str) -> None:
    cost = costs.of_attribution(fresh, method_named(name), forecast(fresh.model, fresh.train))
    command = [sys.executable, "-c", MEASURED, str(fresh.folder), f"test:{fresh.test_ids[7]}", name]
    peak = int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout)
    assert within(cost.peak_bytes / peak, 2.0), (cost.peak_bytes, peak)


@pytest.mark.parametrize(
    "options",
    [HypothesisOptions(rows=500), HypothesisOptions(part="network", rows=600, epochs=2, seeds=1, share=0.3)],
    ids=lambda options: options.part,
)
def test_verifying_the_hypothesis_takes_about_the_time_that_was_said(fresh: Audit, options: HypothesisOptions) -> None:
    cost = hypothesis_cost.of_verification(fresh.project, hypothesis_cost.dry_run_of(fresh.project, options).measure())
    began = time.process_time()
    hypothesis_now(fresh.project, options)
    took = time.process_time() - began
    assert cost.seconds is not None
    assert within(cost.seconds / (costs.START_S + took), TIME_FACTOR), (cost.seconds, took)
