"""A full pass, a curvature fit and a training, stopped again and again between their chunks: the same bytes in the end.

``bench kills`` does the same with ``kill -9`` at random moments.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import forwardinf_core
from forwardinf_core.audits import preparation
from forwardinf_core.audits.attribution import AttributeOptions
from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.fitting import FitOptions
from forwardinf_core.audits.methods import method_named
from forwardinf_core.audits.opening import load_audit
from forwardinf_core.audits.preparation import PrepareOptions
from forwardinf_core.errors import CancelledError
from forwardinf_core.jobs import measure, registry, run
from forwardinf_core.jobs.measure import MeasureOptions
from forwardinf_core.store.files import sha256_of_file

SAVE_EVERY = 2  # batches; with the usual ten the digits would be one piece


@pytest.fixture
def copies(digits_audit: Audit, tmp_path: Path) -> tuple[Path, Path]:
    """Return two folders with the digits and no caches."""
    folders = tmp_path / "calm", tmp_path / "wild"
    for folder in folders:
        shutil.copytree(digits_audit.folder, folder, ignore=shutil.ignore_patterns(".audit", "demo.json"))
    return folders


def stopped_until_done(kind: str, project: Path, options: object, *, every: int) -> int:
    """Stop work after every so many reports until it gets through; return how often it was stopped."""
    stops = 0
    while True:
        heard: list[float] = []

        def stop(done: float, _total: float, _note: str, heard: list[float] = heard, most: int = every + stops) -> None:
            heard.append(done)
            if len(heard) > most:
                raise CancelledError("Stop.")

        try:
            run.run_here(kind, project, options, stop)
        except CancelledError:
            stops += 1
            work = next(path for path in (project / ".audit" / "work").iterdir() if path.is_dir())
            (work / ".writing-torn").write_bytes(b"half a chu")  # the power went in the middle of a write
            assert stops < 40
        else:
            return stops


def digests(folder: Path, pattern: str) -> dict[str, str]:
    found = {str(path.relative_to(folder)): sha256_of_file(path) for path in sorted(folder.glob(pattern))}
    assert found
    return found


@pytest.mark.parametrize("work", ["full pass", "curvature fit", "training"])
def test_stopped_work_ends_in_the_same_bytes(
    copies: tuple[Path, Path], work: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "SAVE_EVERY", SAVE_EVERY)
    monkeypatch.setattr("forwardinf_core.jobs.context.REPORT_EVERY_S", 0.0)
    calm, wild = copies
    full = AttributeOptions((f"test:{load_audit(calm).test_ids[0]}",), method_named("full-sgd"))
    kind, options, pattern = {
        "full pass": (
            "attribute",
            full,
            ".audit/runs/*/scores.parquet",
        ),
        "curvature fit": (
            "prepare",
            PrepareOptions(("tail",), (method_named("tail-ekfac"),)),
            ".audit/caches/curvature-*/*.safetensors",
        ),
        "training": ("fit", FitOptions(epochs=3, width=8), "model/*.safetensors"),
    }[work]
    run.run_here(kind, calm, options)
    assert stopped_until_done(kind, wild, options, every=1) >= 2
    assert digests(wild, pattern) == digests(calm, pattern)


def test_an_upgrade_of_other_code_keeps_the_chunks_and_one_of_the_work_itself_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, made = MeasureOptions(chunks=6, repeats=5), list[int]()
    chunk_of = measure.chunk_of
    monkeypatch.setattr(measure, "chunk_of", lambda own, number: (made.append(number), chunk_of(own, number))[1])
    monkeypatch.setattr("forwardinf_core.jobs.context.REPORT_EVERY_S", 0.0)

    def stop(done: float, _total: float, _note: str) -> None:
        if done == 4:
            raise CancelledError("Stop.")

    with pytest.raises(CancelledError):
        run.run_here("measure", tmp_path, options, stop)
    monkeypatch.setattr(forwardinf_core, "__version__", "99.0")
    registry.job("toy-upgrade")(stop_at_once)
    made.clear()
    with pytest.raises(CancelledError):
        run.run_here("measure", tmp_path, options, stop)
    assert made == []  # every one of the four was there
    kind = registry.find_kind("measure")
    newer = registry.JobKind(kind.name, kind.function, kind.version + 1, kind.fingerprints)
    monkeypatch.setitem(registry._kinds, "measure", newer)
    run.run_here("measure", tmp_path, options)
    assert made == list(range(6))


def stop_at_once(context: object, options: MeasureOptions) -> dict[str, registry.Option]:
    raise AssertionError((context, options))
